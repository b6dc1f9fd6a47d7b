/** How many answers a `TaskStore` keeps, and for how long. */
export interface TaskStoreSettings {
  /** 16 MiB: some thousand answers of an agent, a tenth of the sidecar's memory. */
  readonly maxBytes: number;
  /** 1 MiB: an hour of tokens, and a tenth of the default `max_message_bytes`. */
  readonly maxEntryBytes: number;
  /** 10,000: answers without bytes take at most half a kilobyte each. */
  readonly maxEntries: number;
  /** 5 min: covers all tries of a call with a timeout of 60 s, and a manual retry. */
  readonly maxAgeMs: number;
  /** 5 s: a caller detects a lost connection and its retry arrives within one or two. */
  readonly lingerMs: number;
}

export const TASK_STORE_DEFAULTS: TaskStoreSettings = {
  maxBytes: 16 << 20,
  maxEntryBytes: 1 << 20,
  maxEntries: 10_000,
  maxAgeMs: 300_000,
  lingerMs: 5_000,
};
