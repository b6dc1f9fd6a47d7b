/**
 * Keeps the clocks of one attempt: which of them runs, and which is over first. Pure.
 *
 *     connecting ──▶ waiting ─────────────────────▶ flowing
 *     connect_timeout  stream: first_byte_timeout     idle_timeout
 *                      any: timeout, client
 *                         └── client or held_head is over, and the answer has a head ──▶ released: neither runs on
 *
 * An answer flows when what comes of it is passed on: a stream from its first event, a plain answer only when it is too
 * large to be held. Until then its first byte is of no use to anybody, so a plain answer has the whole `timeout`.
 * `call`, the deadline of the inbound call, runs through all of it.
 */
import type { ClockName } from '../shared/provider-failure.ts';

export interface ClockLimits {
  /** In milliseconds; 0 is off. */
  readonly connectTimeoutMs: number;
  readonly firstByteTimeoutMs: number;
  readonly idleTimeoutMs: number;
  /** Times of the request, by the sidecar's clock; Infinity for none. */
  readonly timeoutAtMs: number;
  readonly clientAtMs: number;
  readonly callAtMs: number;
}

/**
 * How long the head of a stream is held for an event to follow it. An error comes as the first event, at once, and
 * somebody else can be asked then. A model that thinks lets its client wait for longer than many wait for a head.
 */
const HELD_HEAD_MS = 1_000;

export class ProviderAttemptClocks {
  private readonly limits: ClockLimits;
  readonly startedMs: number;
  /** The answer is, or is asked to be, a stream. */
  isStream: boolean;
  connected = false;
  flowing = false;
  /** When the head of a stream came that is held for its first event; Infinity otherwise. */
  headAtMs = Number.POSITIVE_INFINITY;
  /** The client has the answer's head, and goes by its own clock from there. */
  released = false;
  /** The caller does not read: the provider can't show any life. */
  paused = false;
  /** The last sign of life. */
  aliveMs: number;
  /** When {@link next} is over. */
  atMs = Number.POSITIVE_INFINITY;

  constructor(limits: ClockLimits, isStream: boolean, nowMs: number) {
    this.limits = limits;
    this.isStream = isStream;
    this.startedMs = nowMs;
    this.aliveMs = nowMs;
  }

  /** The clock that is over first, at {@link atMs}; undefined when none runs. */
  next(): ClockName | undefined {
    const limits = this.limits;
    let name: ClockName | undefined = 'call';
    let atMs = limits.callAtMs;
    if (this.flowing) {
      const idleAtMs = this.aliveMs + limits.idleTimeoutMs;
      if (!this.paused && limits.idleTimeoutMs > 0 && idleAtMs < atMs) {
        name = 'idle_timeout';
        atMs = idleAtMs;
      }
    } else {
      if (limits.timeoutAtMs < atMs) {
        name = 'timeout';
        atMs = limits.timeoutAtMs;
      }
      if (!this.released && limits.clientAtMs < atMs) {
        name = 'client';
        atMs = limits.clientAtMs;
      }
      if (!this.released && this.headAtMs + HELD_HEAD_MS < atMs) {
        name = 'held_head';
        atMs = this.headAtMs + HELD_HEAD_MS;
      }
      const firstByteAtMs = this.startedMs + limits.firstByteTimeoutMs;
      if (this.isStream && limits.firstByteTimeoutMs > 0 && firstByteAtMs < atMs) {
        name = 'first_byte_timeout';
        atMs = firstByteAtMs;
      }
      const connectAtMs = this.startedMs + limits.connectTimeoutMs;
      if (!this.connected && limits.connectTimeoutMs > 0 && connectAtMs < atMs) {
        name = 'connect_timeout';
        atMs = connectAtMs;
      }
    }
    this.atMs = atMs;
    return atMs === Number.POSITIVE_INFINITY ? undefined : name;
  }
}
