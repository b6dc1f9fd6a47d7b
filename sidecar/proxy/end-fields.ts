/** The fields that the sidecar adds to, or removes from, the head and the end of an answer. */
import { GOING_AWAY_HEADER } from '../grpc/hop-fields.ts';
import { Status, type StatusCode } from '../grpc/status.ts';
import type { MessageHead } from '../http2/head.ts';
import { copyWithout, type HeaderList } from '../http2/hpack/header-list.ts';
import { NEVER, NotAgain } from '../policy/pushback.ts';
import type { Attempt } from './attempt.ts';
import type { CallWith } from './call-facts.ts';
import type { InboundCall } from './inbound-call.ts';
import { isLate, type TimedCall } from './late-pushback.ts';
import { modelFailureField } from './model-failures.ts';
import { type ResponseInfo, responseInfo } from './response-info.ts';
import { RETRIES_ENDED_HEADER } from './sidecar-fields.ts';
import { usedFields } from './task-budget.ts';

/** The parts of a call that the fields behind an answer depend on. */
type AnsweredCall = CallWith<'context' | 'lineage'> & InboundCall;

const PUSHBACK = 'grpc-retry-pushback-ms';
const NEVER_RETRY: readonly string[] = [PUSHBACK, String(NEVER)];
const RETRIES_ENDED: readonly string[] = [RETRIES_ENDED_HEADER, '1'];
const GOING_AWAY: readonly string[] = [GOING_AWAY_HEADER, '1'];

/** Prepares a response head for the caller: removes sidecar fields that an inbound call's app may have copied. */
export function ownHead(call: CallWith<'context' | 'info'>, list: HeaderList, head: MessageHead): HeaderList {
  return call.context.listener === 'inbound' && call.info.grpc ? responseInfo(list, head).asApp : list;
}

/** Prepares the end of a gRPC answer for the caller, before {@link endFields}. */
export function ownFields(
  call: TimedCall,
  attempt: Attempt,
  list: HeaderList,
  info: ResponseInfo,
): HeaderList {
  if (call.context.listener === 'inbound') return info.asApp;
  // Remove only a sidecar's pushback; the app's own passes, as it would without us.
  return attempt.peerReason !== '' && isLate(call, info.pushbackMs) ? copyWithout(list, isPushback) : list;
}

function isPushback(name: string): boolean {
  return name === PUSHBACK;
}

/** The fields that the sidecar adds behind an answer; undefined in the common case, where there are none. */
export function endFields(
  call: AnsweredCall,
  attempt: Attempt,
  status: StatusCode,
  info: ResponseInfo,
): readonly string[] | undefined {
  const inbound = call.context.listener === 'inbound';
  let fields = inbound ? usedFields(call) : undefined;
  // Behind OK, too: an agent may report in its answer that the task failed.
  const { modelFailure, notAgain } = call.lineage;
  if (inbound && modelFailure !== undefined) fields = joined(fields, modelFailureField(call, modelFailure));
  if (status === Status.OK) return fields;
  if (info.pushbackMs === undefined && notAgain === NotAgain.EVERYBODY) fields = joined(fields, NEVER_RETRY);
  if (inbound && notAgain === NotAgain.SIDECARS) fields = joined(fields, RETRIES_ENDED);
  if (inbound && attempt.verdict.reason === 'going_away') fields = joined(fields, GOING_AWAY);
  return fields;
}

function joined(one: readonly string[] | undefined, other: readonly string[]): readonly string[] {
  return one === undefined ? other : one.concat(other);
}
