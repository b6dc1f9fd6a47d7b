/**
 * The `grpc-timeout` header: 1 to 8 digits and a unit (gRPC over HTTP/2, "Timeout"). Some callers write more digits,
 * and C-core's servers accept them; {@link parseTimeout} accepts up to 20. We write no more than 8.
 *
 * Every call parses and formats it once, so both are written by hand.
 */

const DIGIT_0 = 0x30;
const MAX_DIGITS = 8;
/** The most digits that we parse: enough for any 64-bit number. */
const MAX_DIGITS_READ = 20;
const MAX_VALUE = 99_999_999;

/** The longest time that the header can express: 11,000 years. */
const LONGEST_TIMEOUT_MS = MAX_VALUE * 3_600_000;

/** The shortest time that the header can express, 1 ns. */
export const SHORTEST_TIMEOUT_MS = 1e-6;

/**
 * Milliseconds, with a fraction for smaller units; NaN for a malformed value. A time beyond the header's range of 8
 * digits becomes the longest time in that range.
 *
 * Zero isn't in the grammar ("positive integer"), but clients whose deadline has just passed send it. It parses as
 * {@link SHORTEST_TIMEOUT_MS}, so it means an expired deadline and never "no timeout".
 */
export function parseTimeout(value: string): number {
  const digits = value.length - 1;
  if (digits < 1 || digits > MAX_DIGITS_READ) return Number.NaN;
  let amount = 0;
  for (let i = 0; i < digits; i++) {
    const digit = value.charCodeAt(i) - DIGIT_0;
    if (digit < 0 || digit > 9) return Number.NaN;
    amount = amount * 10 + digit;
  }
  const timeoutMs = inMilliseconds(amount, value.charCodeAt(digits));
  if (timeoutMs > LONGEST_TIMEOUT_MS) return LONGEST_TIMEOUT_MS;
  return timeoutMs === 0 ? SHORTEST_TIMEOUT_MS : timeoutMs;
}

/** Whether strict servers, which accept only 8 digits, would refuse it. */
export function isLongTimeout(value: string): boolean {
  return value.length > MAX_DIGITS + 1;
}

function inMilliseconds(amount: number, unit: number): number {
  switch (unit) {
    case 0x48: // H
      return amount * 3_600_000;
    case 0x4d: // M
      return amount * 60_000;
    case 0x53: // S
      return amount * 1000;
    case 0x6d: // m
      return amount;
    case 0x75: // u
      return amount / 1000;
    case 0x6e: // n
      return amount / 1e6;
    default:
      return Number.NaN;
  }
}

/**
 * The header's value for `timeoutMs` milliseconds: never longer, at most 8 digits, and within 0.1 % of it.
 *
 * A time of zero or less becomes `1n`, the shortest value: answer such a call instead of forwarding it.
 */
export function formatTimeout(timeoutMs: number): string {
  if (timeoutMs >= 1000) {
    if (timeoutMs < MAX_VALUE + 1) return `${Math.floor(timeoutMs)}m`;
    if (timeoutMs < (MAX_VALUE + 1) * 1000) return `${Math.floor(timeoutMs / 1000)}S`;
    if (timeoutMs < (MAX_VALUE + 1) * 60_000) return `${Math.floor(timeoutMs / 60_000)}M`;
    return `${Math.min(Math.floor(timeoutMs / 3_600_000), MAX_VALUE)}H`;
  }
  if (timeoutMs >= 1) return `${wholeBelow(timeoutMs, 1000)}u`;
  if (timeoutMs >= SHORTEST_TIMEOUT_MS) return `${Math.max(wholeBelow(timeoutMs, 1e6), 1)}n`;
  return '1n';
}

/** The product rounded down; the multiplication may have rounded up, past the remaining time. */
function wholeBelow(timeoutMs: number, perMs: number): number {
  const whole = Math.floor(timeoutMs * perMs);
  return whole / perMs > timeoutMs ? whole - 1 : whole;
}
