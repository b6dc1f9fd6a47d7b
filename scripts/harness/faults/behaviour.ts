// The behaviour of a replica, which its control port can change.

export type Fault =
  | 'none'
  /** OK, with a TaskResponse that reports FAILED. A stream has no such field, and gets its usual answer. */
  | 'failed_status'
  /** An error in a trailers-only response: the only kind that a proxy detects by headers alone. */
  | 'trailers_only'
  /** An error in the trailers: for a stream after its first message, for a task after the headers. */
  | 'trailers'
  /** Accepts the call and never answers. */
  | 'hang'
  /** RST_STREAM: for a stream after its first message, for a task after the headers. */
  | 'reset';

export interface Behaviour {
  readonly fault: Fault;
  /** The gRPC status of `trailers_only` and `trailers`. */
  readonly code: number;
  /** The replica alternates between fault and health, each for this time, fault first; 0: the fault stays. */
  readonly flapMs: number;
  /** The time from the request to the answer, or to a stream's first message. */
  readonly serviceMs: number;
  readonly chunks: number;
  readonly chunkEveryMs: number;
  /** A factor for all times above. */
  readonly slowdown: number;
  /** The number of tasks in progress; further ones queue; 0 is no limit. */
  readonly workers: number;
  /**
   * Before it answers, the replica calls another agent: on this port (a sidecar's outbound listener), with the same
   * kind of RPC.
   */
  readonly nextPort: number;
}

export const USUAL: Behaviour = {
  fault: 'none',
  code: 14,
  flapMs: 0,
  serviceMs: 20,
  chunks: 4,
  chunkEveryMs: 20,
  slowdown: 1,
  workers: 0,
  nextPort: 0,
};

/** The authority by which agents call each other here. */
export const NEXT_AUTHORITY = 'agents';
