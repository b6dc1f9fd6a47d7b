import type { MessageHead } from '../http2/head.ts';
import type { HeaderList } from '../http2/hpack/header-list.ts';
import type { PeerIdentity } from '../http2/peer-identity.ts';
import type { Stream } from '../http2/streams.ts';
import type { CallPathGuard } from '../policy/call-path.ts';
import type { TimeLimits } from '../policy/deadline.ts';
import type { TaskStats } from '../telemetry/task-stats.ts';
import type { Admission } from './admission.ts';
import type { CallContext } from './call-facts.ts';
import type { KeptRequests } from './kept-requests.ts';
import type { CallObserver, CallTracer } from './observed-call.ts';
import type { Router } from './router.ts';
import type { TaskRuns } from './task-runs.ts';

/** Services that the sidecar answers itself (health). */
export interface LocalServices {
  /** Takes the stream over and answers true, or leaves it alone and answers false. */
  serve(stream: Stream, list: HeaderList, head: MessageHead, endStream: boolean): boolean;
}

/**
 * What the calls of one listener share. `router` and `settings` are replaced on a reload: a call reads them once,
 * at its beginning, so no call sees half of each.
 */
export interface ProxyContext extends CallContext {
  readonly random: () => number;
  /** Who may come in: on the inbound side. Outbound each cluster has its own limit. */
  readonly admission: Admission | undefined;
  /** Where the outcomes of tasks are counted: on the inbound side, whose app runs them. */
  readonly tasks: TaskStats | undefined;
  readonly localServices: LocalServices | undefined;
  /** Runs each task once: on the inbound side. */
  readonly taskRuns: TaskRuns | undefined;
  /** Bounds what running calls keep of their requests: on the inbound side. Outbound each cluster has `retry.buffer_bytes`. */
  readonly keptRequests: KeptRequests | undefined;
  router: Router;
  settings: ProxySettings;
  callPath: CallPathGuard;
  name: string;
  observer: CallObserver | undefined;
  tracer: CallTracer | undefined;
}

export interface ProxySettings {
  /** Tasks that come again are run once. */
  readonly deduplicateTasks: boolean;
  /** Inbound calls have a name in their baggage, by which the app's own calls are known to be made for them. */
  readonly namesCalls: boolean;
  /** Header fields, in lower case, whose values tell callers apart besides identity and `authorization`. */
  readonly scopeHeaders: readonly string[];
  /** Whether a caller may give its call a token budget; what others send is left out. */
  readonly mayBudget: (identity: PeerIdentity | undefined) => boolean;
  /** What callers say of a client's certificate is not passed on: on the inbound side. */
  readonly dropsCertificates: boolean;
  /** Of calls whose cluster is not known, or not asked. */
  readonly timeLimits: TimeLimits;
  /** Largest message in either direction; Infinity for no limit. */
  readonly maxMessageBytes: number;
}
