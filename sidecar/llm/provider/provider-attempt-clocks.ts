/**
 * Runs the clocks of one attempt: says which of them is over first, and what follows. Pure.
 *
 *     connecting ──▶ waiting ─────────────────────▶ flowing
 *     connect_timeout  stream: first_byte_timeout     idle_timeout
 *                      any: timeout, client
 *                         └── client or held_head is over, and the answer has a head ──▶ released: neither runs on
 *
 * An answer flows when the caller receives it as it comes: a stream from its first event, a plain answer only when it is
 * too large to be held. Until then the first byte of a plain answer is of no use to its caller, so a plain answer has the
 * whole `timeout`. `call`, the deadline of the inbound call, runs all the time.
 */
import type { ClockName, ProviderFailureReason } from '../shared/provider-failure.ts';

export interface ClockLimits {
  /** Timeouts in milliseconds; 0 is off. */
  readonly connectTimeoutMs: number;
  readonly firstByteTimeoutMs: number;
  readonly idleTimeoutMs: number;
  /** Times by the sidecar's clock, the same for all attempts of the request; Infinity for none. */
  readonly timeoutAtMs: number;
  readonly clientAtMs: number;
  readonly callAtMs: number;
}

/**
 * How long the head of a stream is held back for an event to follow it. A provider sends an error as the first event, at
 * once, and another upstream can be asked then. A model that thinks takes longer than many clients wait for a head.
 */
const HELD_HEAD_MS = 1_000;

export class ProviderAttemptClocks {
  private readonly limits: ClockLimits;
  readonly startedMs: number;
  /** The answer is a stream, or the request asks for one. */
  isStream: boolean;
  connected = false;
  flowing = false;
  /** When the held head of a stream came; Infinity while none is held. */
  headAtMs = Number.POSITIVE_INFINITY;
  /** The client has received the answer's head, and waits by its own clock from there. */
  released = false;
  /** The caller does not read, so the provider can't show life. */
  paused = false;
  /** When the last sign of life came. */
  aliveMs: number;
  /** When {@link next} is over. */
  atMs = Number.POSITIVE_INFINITY;

  constructor(limits: ClockLimits, isStream: boolean, nowMs: number) {
    this.limits = limits;
    this.isStream = isStream;
    this.startedMs = nowMs;
    this.aliveMs = nowMs;
  }

  /** Returns the clock that is over first, at {@link atMs}; undefined when none runs. */
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

/** The part of an answer that decides what follows the end of a clock. */
interface HeldAnswer {
  readonly complete: boolean;
}

/**
 * Returns what follows the end of a clock: `complete` takes the answer for whole, `release` passes on what has come, and
 * a reason fails the attempt.
 *
 * @param body undefined while no head of an answer is here
 */
export function actionOf(
  clock: ClockName,
  body: HeldAnswer | undefined,
): 'complete' | 'release' | ProviderFailureReason {
  if (clock === 'connect_timeout') return 'connect_failed';
  if (clock === 'first_byte_timeout') return 'first_byte';
  if (body?.complete === true) return 'complete';
  switch (clock) {
    case 'idle_timeout':
      return 'idle';
    case 'client':
    case 'held_head':
      return body === undefined ? 'deadline' : 'release';
    case 'timeout':
    case 'call':
      return 'deadline';
    default:
      return clock satisfies never;
  }
}
