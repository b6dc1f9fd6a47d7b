// Judges the outcome that a client observed for a fault.
import type { Seen } from './clients.ts';
import { CLOCKS, type Fault, WHOLE } from './faults.ts';

/** The delay that a busy machine may add. */
const SLACK_MS = 6_000;

/**
 * Undefined for the right outcome; otherwise what is wrong, in a few words.
 *
 * @param mostMs the time limit, without the delay of a busy machine
 */
export function complaint(
  fault: Fault,
  seen: Seen,
  requests: number,
  mostMs: number = CLOCKS.totalMs,
): string | undefined {
  const mostRequests = fault.requests ?? CLOCKS.attempts;
  if (seen.kind === 'hang') return 'hangs';
  if (seen.kind === 'answer' && seen.text !== WHOLE) return 'half an answer passes for a whole one';
  if (seen.kind !== fault.expect)
    return fault.expect === 'answer' ? `fails: ${seen.message.slice(0, 80)}` : 'no error is seen';
  if (requests > mostRequests) return `${requests} requests`;
  if (seen.durationMs > mostMs + SLACK_MS) return `takes ${(seen.durationMs / 1000).toFixed(1)} s`;
  if (fault.status !== undefined && seen.status !== fault.status) return `status ${seen.status}`;
  return undefined;
}
