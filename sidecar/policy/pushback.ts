/** The `grpc-retry-pushback-ms` header: how long the server asks a caller to wait before it tries again (A6). */

/** The meaning of a negative or unreadable value: do not try again at all. */
export const NEVER = -1;

/**
 * The callers that must not retry a call, by its answer. Compare with `<`.
 *
 * If a sidecar does not retry, its caller decides, as it would without the sidecar: a client's own `retryPolicy` stays
 * in force, and the answer carries no field. Other sidecars in the chain are notified (`outrigger-retries-ended`) if
 * they would have an agent run again with the same result. `grpc-retry-pushback-ms: -1`, which ends a client's own
 * policy as well, is for a failure whose retries are used up: a hop above would multiply them.
 */
export const NotAgain = { NOBODY: 0, SIDECARS: 1, EVERYBODY: 2 } as const;
export type NotAgain = (typeof NotAgain)[keyof typeof NotAgain];

const MAX_DIGITS = 10;
/** The field is a 32-bit integer in every gRPC implementation. */
const MAX_MS = 2_147_483_647;

/** Milliseconds, 0 or more; {@link NEVER} for a value that is negative or no whole number. */
export function parsePushback(value: string): number {
  if (value.length === 0 || value.length > MAX_DIGITS) return NEVER;
  for (let i = 0; i < value.length; i++) {
    const code = value.charCodeAt(i);
    if (code < 0x30 || code > 0x39) return NEVER;
  }
  const pushbackMs = Number(value);
  return pushbackMs <= MAX_MS ? pushbackMs : NEVER;
}

const MAX_PREVIOUS = 1_000;

/** Reads `grpc-previous-rpc-attempts`; 0 when it is absent or malformed, and never more than a thousand. */
export function parsePreviousAttempts(value: string | undefined): number {
  if (value === undefined || !/^\d{1,9}$/.test(value)) return 0;
  return Math.min(Number(value), MAX_PREVIOUS);
}

/**
 * The `grpc-previous-rpc-attempts` of an attempt (A6): the attempts that the caller reports, and ours. Transparent
 * retries do not count: no server has seen those attempts. Undefined when the header must be left out.
 */
export function previousAttemptsHeader(callersAttempts: number, ownAttempts: number): string | undefined {
  const previous = callersAttempts + ownAttempts;
  return previous > 0 ? String(previous) : undefined;
}
