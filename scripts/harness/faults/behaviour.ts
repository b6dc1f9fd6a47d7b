// What a replica can be told to do, over its control port.

export type Fault =
  | 'none'
  /** OK, and a TaskResponse that says FAILED. A stream has no such field: it is answered as usual. */
  | 'failed_status'
  /** An error in a Trailers-Only response: all that proxies which look at headers see. */
  | 'trailers_only'
  /** An error in the trailers: of a stream after its first message, of a task after the headers. */
  | 'trailers'
  /** Takes the call and never answers. */
  | 'hang'
  /** RST_STREAM: of a stream after its first message, of a task after the headers. */
  | 'reset';

export interface Behaviour {
  readonly fault: Fault;
  /** The gRPC status of `trailers_only` and `trailers`. */
  readonly code: number;
  /** The fault comes and goes, each for so long, beginning with the fault; 0: it stays. */
  readonly flapMs: number;
  /** From the request to the answer, or to a stream's first message. */
  readonly serviceMs: number;
  readonly chunks: number;
  readonly chunkEveryMs: number;
  /** All times above are multiplied by this. */
  readonly slowdown: number;
  /** Tasks that are worked on at a time, the others queue; 0 is no limit. */
  readonly workers: number;
  /** The answer needs another agent's: a call to this port (a sidecar's outbound), by the same kind of RPC. */
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

/** The authority that agents call each other by here. */
export const NEXT_AUTHORITY = 'agents';
