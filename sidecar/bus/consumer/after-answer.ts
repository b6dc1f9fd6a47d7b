/** Decides what becomes of a task whose run has ended in this process. Pure. */
import { factsOf } from '../../policy/reasons.ts';
import type { InnerEnd } from './inner-call.ts';

/**
 * `settle`: the answer is the task's result. `give_back`: the agent has seen nothing, or this sidecar ends: another may run
 * it. `lose`: the agent is gone without an answer. `run_anew`: the sidecar has run this task, and can't give its answer again.
 */
export type AfterAnswer = 'settle' | 'give_back' | 'lose' | 'run_anew';

/** @param isDraining the sidecar ends, or has ended the call itself */
export function afterAnswer(end: InnerEnd, isDraining: boolean): AfterAnswer {
  if (end.kind === 'not_sent') return 'give_back';
  if (end.kind === 'broken') return isDraining ? 'give_back' : 'lose';
  if (end.reason === 'task_not_repeatable') return 'run_anew';
  // A connection to the agent that is lost ends the run without an answer, whatever the status says.
  if (end.reason === 'stream_cut') return isDraining ? 'give_back' : 'lose';
  // Every other answer, an agent's error too, is the result: another run could only repeat it, and costs as much.
  return factsOf(end.reason)?.turnedAway === true ? 'give_back' : 'settle';
}
