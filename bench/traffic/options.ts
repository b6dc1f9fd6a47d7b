// The traffic generator's options and output lines, as JSON.

export interface TrafficOptions {
  /** Of the target, on 127.0.0.1. */
  port: number;
  connections: number;
  /** Concurrent calls on each connection. */
  streams: number;
  /** How long calls are counted … */
  seconds: number;
  /** … after so long in which they are not. */
  warmUpSeconds: number;
  /** An open loop: calls are made at this rate, whether earlier ones were answered or not. As fast as it goes when absent. */
  callsPerSecond?: number;
  path: string;
  /** Characters of the task's input. */
  inputBytes: number;
  /** The bytes of all DATA frames of an answer; the generator checks every answer. */
  answerBytes: number;
  /** `max_tokens` of the task, which the bench's own upstream takes for the number of chunks. */
  chunks?: number;
  /** The tasks have no ids. */
  withoutIds?: boolean;
  /** Fields that every call has with the same value, beside the usual ones. */
  extraHeaders: number;
  /**
   * traceparent and x-request-id with values of their own in each call, Huffman-coded, as clients that trace send
   * them: `literal` without, `indexed` with incremental indexing.
   */
  uniqueHeaders: 'none' | 'literal' | 'indexed';
  /** Opens all streams, waits for the first bytes of each answer, and keeps them open until it is ended. */
  hold?: boolean;
  tls?: { ca: string; cert: string; key: string; serverName: string };
}

/** The lines that the generator prints, each a JSON object. */
export type TrafficLine =
  /** Counting begins now. */
  | { event: 'begin' }
  /** All streams are open. */
  | { event: 'held'; streams: number }
  | ({ event: 'end' } & TrafficResult);

export interface TrafficResult {
  calls: number;
  callsPerSecond: number;
  /** Calls that did not end as they should: another status than OK, another length, a reset. */
  failed: number;
  firstFailure?: string;
  /** Carried by DATA frames while it counted. */
  bytesPerSecond: number;
  /** From a call's sending to its end; of an open loop only. */
  latencyMs?: { mean: number; p50: number; p90: number; p99: number; max: number };
  /** How late an open loop sent its calls, 99th percentile. A timer is about a millisecond late. */
  lagP99Ms?: number;
  /** The generator's share of its core meanwhile, from 0 to 1. */
  cpuShare: number;
}
