/**
 * Names the states of a provider attempt:
 *
 *     asking ──head──▶ holding ──first event, or whole──▶ committed        over: from every state; the attempt's
 *        │                                                    ▲                 owner has its end
 *        └─head of an error─▶ deciding ──the caller gets it───┘
 *                                └──another attempt follows──▶ skipping ──▶ over
 *
 * - `asking`: no head of an answer is here;
 * - `holding`: an answer has begun, and the caller has nothing of it, so that another upstream can still be asked;
 * - `deciding`: the answer is an error, and its body decides whether another attempt follows;
 * - `committed`: the caller has received a part of the answer: what goes wrong now breaks its connection;
 * - `skipping`: the owner has the end, and the rest of an error is read and dropped, so that the connection can be reused.
 */
import type { Arrows } from '../../errors/illegal-step.ts';

export type AttemptState = 'asking' | 'holding' | 'deciding' | 'committed' | 'skipping' | 'over';

export const ATTEMPT_ARROWS: Arrows<AttemptState> = {
  asking: ['holding', 'deciding', 'over'],
  holding: ['committed', 'over'],
  deciding: ['committed', 'skipping', 'over'],
  committed: ['over'],
  skipping: ['over'],
  over: [],
};
