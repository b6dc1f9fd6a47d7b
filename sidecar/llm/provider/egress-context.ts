/** Holds what all requests of the egress share. A reload replaces `settings` and `upstreams`, so a request reads them once. */
import type { TimerWheel } from '../../clock/timer-wheel.ts';
import type { Journal } from '../../journal/journal.ts';
import type { SharedCounters } from '../../policy/shared-counters.ts';
import type { LlmStats } from '../../telemetry/llm-stats.ts';
import type { ClientRetries } from '../caller/client-retries.ts';
import type { MinuteGate } from '../limits/minute-gate.ts';
import type { PlaceGates } from '../limits/place-gates.ts';
import type { PriceBook } from '../money/price-book.ts';
import type { Lookup } from '../relay/address-watch.ts';
import type { LlmSettings } from '../shared/llm-settings.ts';
import type { OwnerCalls } from '../shared/owner-call.ts';
import type { LlmEvents, LlmObserver } from '../shared/request-observer.ts';
import type { Affinity } from './affinity.ts';
import type { Routes } from './routes.ts';
import type { Upstream } from './upstream.ts';

export interface EgressEnvironment {
  readonly wheel: TimerWheel;
  /** Milliseconds that never go back. */
  readonly clock: () => number;
  readonly random: () => number;
  /** The environment variables, for keys. */
  readonly variables: Readonly<Record<string, string | undefined>>;
  readonly stats: LlmStats;
  readonly events: LlmEvents;
  readonly ownerCalls: OwnerCalls | undefined;
  /** Undefined where no answers are kept. */
  readonly journal?: Journal | undefined;
  /** Milliseconds since 1970, by which days and minutes of callers begin. */
  readonly wallClock: () => number;
  /** What replicas of the service share; undefined where each has its part. */
  readonly counters: () => SharedCounters | undefined;
  /** Finds the addresses of a name; undefined is the system's way. */
  readonly lookup?: Lookup | undefined;
  /** Receives bodies, if the configuration turns their log on. */
  readonly logBody: (direction: 'request' | 'answer', body: string) => void;
}

export interface EgressContext extends EgressEnvironment {
  settings: LlmSettings;
  upstreams: readonly Upstream[];
  /** Where requests may go; of the upstreams and the settings. */
  routes: Routes;
  readonly affinity: Affinity;
  readonly prices: PriceBook;
  readonly gate: MinuteGate;
  /** The limits of upstreams and of rules for models. */
  readonly places: PlaceGates;
  readonly clientRetries: ClientRetries;
  observer: LlmObserver | undefined;
}
