/**
 * Durations as the configuration has them: `30s`, `250ms`, `1.5s`, `1h30m`. The unit is required, so that 60 can't be
 * mistaken for seconds or milliseconds.
 */

/** The syntax of a duration: numbers may have a fraction, units go from large to small. */
export const DURATION_PATTERN =
  /^(?=.)(?:(?:\d+(?:\.\d+)?)h)?(?:(?:\d+(?:\.\d+)?)m)?(?:(?:\d+(?:\.\d+)?)s)?(?:(?:\d+(?:\.\d+)?)ms)?$/;

/** The longest duration a Node timer can hold: 2^31 - 1 ms, a little under 25 days. */
export const MAX_DURATION_MS = 2 ** 31 - 1;

const UNIT_MS = { h: 3_600_000, m: 60_000, s: 1000, ms: 1 } as const;

/** Milliseconds, rounded to a whole number, or `undefined` when `text` is not a duration. */
export function parseDurationMs(text: string): number | undefined {
  if (text.length > 64 || !DURATION_PATTERN.test(text)) return undefined;
  let totalMs = 0;
  for (const [, amount, unit] of text.matchAll(/([\d.]+)(ms|h|m|s)/g)) {
    totalMs += Number(amount) * UNIT_MS[unit as keyof typeof UNIT_MS];
  }
  return Math.round(totalMs);
}

/** The syntax of an age: whole days, or a duration. */
export const AGE_PATTERN = new RegExp(`^(?:\\d{1,6}d|(?:${DURATION_PATTERN.source.slice(1, -1)}))$`);

const DAY_MS = 86_400_000;

/** Milliseconds, or `undefined` when `text` is not an age. */
export function parseAgeMs(text: string): number | undefined {
  if (!AGE_PATTERN.test(text)) return undefined;
  return text.endsWith('d') ? Number.parseInt(text, 10) * DAY_MS : parseDurationMs(text);
}
