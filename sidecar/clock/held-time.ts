/**
 * One time for all that one event causes. A read of many calls would otherwise ask the operating system for the time
 * several times a call, for answers that differ by microseconds.
 *
 *     holdTime ──▶ heldNow: the time of its first use ──▶ releaseTime ──▶ heldNow: the time of each use
 *
 * Time is held within one synchronous run only, so that whoever asks later never gets an old one.
 */
const UNREAD = -1;

let held = false;
let nowMs = UNREAD;

/** Stops the time that {@link heldNow} gives, until {@link releaseTime}. */
export function holdTime(): void {
  held = true;
  nowMs = UNREAD;
}

export function releaseTime(): void {
  held = false;
}

/** Milliseconds of `performance.now()`, which never go back. While the time is held they are those of the first use. */
export function heldNow(): number {
  if (!held) return performance.now();
  if (nowMs === UNREAD) nowMs = performance.now();
  return nowMs;
}
