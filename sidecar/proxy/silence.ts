import { isSidecar } from '../grpc/sidecar-settings.ts';
import { foundNobody, isSilence } from '../policy/reach.ts';
import type { Attempt } from './attempt.ts';
import type { CallWith, PlacedFacts } from './call-facts.ts';

/**
 * Whether somebody was there at a failed attempt, as far as that is known. A silence is asked about, for those who are to
 * know by the time they need it: a stopped process and a hanging agent are told apart by a sign of life
 * (`cluster/health/silence-watch.ts`).
 */
export function judgeReach(call: PlacedFacts & CallWith<'context'>, attempt: Attempt, nowMs: number): void {
  const { verdict, stream, endpoint } = attempt;
  if (verdict.outcome !== 'failure') return;
  attempt.unreachable = foundNobody(verdict, stream !== undefined);
  if (stream === undefined || !isSilence(verdict, attempt.peerReason)) return;
  const { connection } = stream;
  // Fields that a sidecar sends say nothing of its app.
  if (!isSidecar(connection.peer) && nowMs - connection.lastReadAtMs < attempt.elapsedMs / 2) return;
  const { silence } = call.cluster;
  attempt.unreachable = silence.isAbsent(endpoint);
  attempt.silent = true;
  // The local app has no circuit, and nothing to be ejected for.
  if (call.context.listener === 'outbound') silence.ask(endpoint, connection);
}
