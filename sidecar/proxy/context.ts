/** The objects that the calls of one listener share. */
import type { MessageHead } from '../http2/head.ts';
import type { HeaderList } from '../http2/hpack/header-list.ts';
import type { PeerIdentity } from '../http2/peer-identity.ts';
import type { Stream } from '../http2/streams.ts';
import type { CallPathGuard } from '../policy/call-path.ts';
import type { TimeLimits } from '../policy/time-limit-settings.ts';
import type { TaskStats } from '../telemetry/task-stats.ts';
import type { Admissions } from './admissions.ts';
import type { CallContext } from './call-facts.ts';
import type { KeptRequests } from './kept-requests.ts';
import type { CallObserver, CallTracer } from './observed-call.ts';
import type { Resumptions } from './resumptions.ts';
import type { Router } from './router.ts';
import type { TaskRuns } from './task-runs.ts';

/** Services that the sidecar answers itself (health, tasks). */
export interface LocalServices {
  /** Takes the stream over and returns true, or leaves it alone and returns false. */
  serve(stream: Stream, list: HeaderList, head: MessageHead, endStream: boolean): boolean;
}

/** A reload replaces `router` and `settings`: a call reads each once, at its start, so that no call sees half of each. */
export interface ProxyContext extends CallContext {
  readonly random: () => number;
  /** Admits calls on the inbound side. On the outbound side each cluster has its own limit. */
  readonly admissions: Admissions | undefined;
  /** Counts the outcomes of tasks on the inbound side, whose app runs them. */
  readonly tasks: TaskStats | undefined;
  readonly localServices: readonly LocalServices[];
  /** Runs each task once, on the inbound side. */
  readonly taskRuns: TaskRuns | undefined;
  /** Lets callers come back for the rest of a stream, on the inbound side. */
  readonly resumptions: Resumptions | undefined;
  /** Bounds the memory that running calls keep of their requests, on the inbound side. Outbound clusters have `retry.buffer_bytes`. */
  readonly keptRequests: KeptRequests | undefined;
  router: Router;
  settings: ProxySettings;
  callPath: CallPathGuard;
  name: string;
  observer: CallObserver | undefined;
  tracer: CallTracer | undefined;
}

export interface ProxySettings {
  /** Runs a repeated task once. */
  readonly deduplicateTasks: boolean;
  /** Names each inbound call in its baggage, so that the sidecar can find the owner of the app's own calls. */
  readonly namesCalls: boolean;
  /** Header fields, in lower case, that separate callers in addition to identity and `authorization`. */
  readonly scopeHeaders: readonly string[];
  /** Whether a caller may set a token budget for its call; other callers' budgets are removed. */
  readonly mayBudget: (identity: PeerIdentity | undefined) => boolean;
  /** Removes the fields in which callers describe a client's certificate, on the inbound side. */
  readonly dropsCertificates: boolean;
  /** The limits of calls whose cluster is unknown or not asked. */
  readonly timeLimits: TimeLimits;
  /** The largest message in either direction; Infinity means no limit. */
  readonly maxMessageBytes: number;
}
