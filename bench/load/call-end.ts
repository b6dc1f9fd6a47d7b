// The end of a call.

/** How a call ended: `OK`, a gRPC status, or OK with an answer that is invalid. */
export interface CallEnd {
  /**
   * `OK`; the name of the gRPC status; `task FAILED` and `task TIMEOUT` for an answer with status OK whose task did
   * not succeed; `no final chunk` for a stream that ended with OK before its last chunk.
   */
  readonly outcome: string;
  /** Of `outrigger-reason`: why a sidecar answered itself. */
  readonly reason?: string | undefined;
  /** `grpc-retry-pushback-ms` was among its trailers. */
  readonly pushback?: boolean;
  /** `outrigger-deduplicated` was among its headers: the task had been run before. */
  readonly deduplicated?: boolean;
  /** `grpc-message`, without the values of the caller's metadata. */
  readonly message?: string | undefined;
}

export const OK_END: CallEnd = { outcome: 'OK' };

/** When a call was due and when it was made, in milliseconds from the start of the schedule. */
export interface CallTimes {
  readonly dueMs: number;
  readonly sentMs: number;
}
