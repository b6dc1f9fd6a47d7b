/** Finds out whether the endpoint of a failed attempt was alive. */
import { isSidecar } from '../grpc/sidecar-settings.ts';
import { foundNobody, isSilence } from '../policy/reach.ts';
import type { Attempt } from './attempt.ts';
import type { CallWith, PlacedFacts } from './call-facts.ts';

/**
 * Judges, as far as possible, whether the endpoint of a failed attempt was alive. After a silence the sidecar asks for
 * a sign of life, so that the answer is known when it is needed: it tells a stopped process from a hanging agent
 * (`cluster/health/silence-watch.ts`).
 */
export function judgeReach(call: PlacedFacts & CallWith<'context'>, attempt: Attempt, nowMs: number): void {
  const { verdict, stream, endpoint } = attempt;
  if (verdict.outcome !== 'failure') return;
  attempt.unreachable = foundNobody(verdict, stream !== undefined);
  if (stream === undefined || !isSilence(verdict, attempt.peerReason)) return;
  const { connection } = stream;
  // Frames from a sidecar say nothing about its app.
  if (!isSidecar(connection.peer) && nowMs - connection.lastReadAtMs < attempt.elapsedMs / 2) return;
  const { silence } = call.cluster;
  attempt.unreachable = silence.isAbsent(endpoint);
  attempt.silent = true;
  // The local app has no circuit, and is never ejected.
  if (call.context.listener === 'outbound') silence.requestSign(endpoint, connection);
}
