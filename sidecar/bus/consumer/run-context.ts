/** The interface of what runs need to know of their sidecar. */
import type { TimerWheel } from '../../clock/timer-wheel.ts';
import type { TaskLog } from '../log/task-log.ts';
import type { BusMemory } from '../memory/bus-memory.ts';
import type { Sealer } from '../message/sealer.ts';
import type { ConsumerEvents } from './consumer-events.ts';
import type { InnerCalls } from './inner-calls.ts';
import type { RunGate } from './run-gate.ts';

export interface RunContext {
  readonly log: TaskLog;
  readonly sealer: Sealer;
  readonly memory: BusMemory;
  readonly calls: InnerCalls;
  readonly gate: RunGate;
  readonly events: ConsumerEvents;
  readonly wheel: TimerWheel;
  readonly clock: () => number;
  readonly random: () => number;
  readonly settings: RunSettings;
  /** The sidecar ends: calls that it cuts go back to the log. */
  readonly isDraining: boolean;
  /** The log is about to close: nothing is tried again. */
  readonly isClosing: boolean;
}

export interface RunSettings {
  readonly leaseMs: number;
  /** 0 is no limit. */
  readonly runTimeoutMs: number;
  readonly maxAnswerBytes: number;
  /** Whether tasks of this publisher may run here (`inbound.tls.allow_identities`). */
  allows(publisher: string): boolean;
}
