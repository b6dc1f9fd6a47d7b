import { Status, type StatusCode } from '../grpc/status.ts';
import { NEVER, NotAgain } from '../policy/pushback.ts';
import type { Attempt } from './attempt.ts';
import type { Call } from './call.ts';
import { modelFailureField } from './model-failures.ts';
import type { ResponseInfo } from './response-info.ts';
import { GOING_AWAY_HEADER, RETRIES_ENDED_HEADER } from './sidecar-fields.ts';
import { usedTokensField } from './task-budget.ts';

const NEVER_RETRY: readonly string[] = ['grpc-retry-pushback-ms', String(NEVER)];
const RETRIES_ENDED: readonly string[] = [RETRIES_ENDED_HEADER, '1'];
const GOING_AWAY: readonly string[] = [GOING_AWAY_HEADER, '1'];

/** The fields of ours behind an answer's own: undefined on the common path, where there are none. */
export function endFields(
  call: Call,
  attempt: Attempt,
  status: StatusCode,
  info: ResponseInfo,
): readonly string[] | undefined {
  const inbound = call.context.listener === 'inbound';
  let fields = inbound ? usedTokensField(call) : undefined;
  // Also behind OK: an agent may say in its answer that the task failed.
  if (inbound && call.modelFailure !== undefined)
    fields = joined(fields, modelFailureField(call, call.modelFailure));
  if (status === Status.OK) return fields;
  if (info.pushbackMs === undefined && call.notAgain === NotAgain.EVERYBODY)
    fields = joined(fields, NEVER_RETRY);
  if (inbound && call.notAgain === NotAgain.SIDECARS) fields = joined(fields, RETRIES_ENDED);
  if (inbound && attempt.verdict.reason === 'going_away') fields = joined(fields, GOING_AWAY);
  return fields;
}

function joined(one: readonly string[] | undefined, other: readonly string[]): readonly string[] {
  return one === undefined ? other : one.concat(other);
}
