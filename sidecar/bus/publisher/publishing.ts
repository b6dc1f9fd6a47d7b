/** The interface of what all calls of a publisher share. */
import type { TaskCounts } from '../log/task-counts.ts';
import type { TaskLog } from '../log/task-log.ts';
import type { BusMemory } from '../memory/bus-memory.ts';
import type { Fields } from '../message/payload.ts';
import type { Sealer } from '../message/sealer.ts';
import type { WaitingCallers } from './waiting-callers.ts';

export interface PublishingSettings {
  /** `inbound.max_message_bytes`. */
  readonly maxMessageBytes: number;
  /** `inbound.tasks.max_age`: how long after its end a task is given again, rather than run again. */
  readonly joinEndedForMs: number;
}

export interface Publishing {
  readonly log: TaskLog;
  readonly sealer: Sealer;
  readonly memory: BusMemory;
  /** The verified name of this sidecar on the log, or ''. */
  readonly publisher: string;
  readonly counts: TaskCounts;
  readonly waiting: WaitingCallers;
  readonly settings: PublishingSettings;
  /** The digest of the scope of the caller that sends these fields. */
  scopeOf(fields: Fields): string;
  /** Those of a request's fields that may be stored with its task. */
  fieldsOf(list: { readonly fields: Fields }): Fields;
  /** An error that is no answer of the log: a defect. */
  onDefect(error: unknown): void;
}
