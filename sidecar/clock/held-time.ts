/**
 * Holds the time while one event is handled. A read that carries many calls would otherwise read the system clock several
 * times a call, for values that differ by microseconds.
 *
 *     holdTime ──▶ heldNow: the time of its first use ──▶ releaseTime ──▶ heldNow: the time of each use
 *
 * Hold the time within one synchronous run only, so that later code never reads an old time.
 */
const UNREAD = -1;

let held = false;
let nowMs = UNREAD;

/** Stops the time that {@link heldNow} returns, until {@link releaseTime}. */
export function holdTime(): void {
  held = true;
  nowMs = UNREAD;
}

export function releaseTime(): void {
  held = false;
}

/** Returns the monotonic milliseconds of `performance.now()`; while the time is held, those of the first use. */
export function heldNow(): number {
  if (!held) return performance.now();
  if (nowMs === UNREAD) nowMs = performance.now();
  return nowMs;
}
