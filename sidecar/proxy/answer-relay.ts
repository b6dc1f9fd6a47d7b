/** Sends the answer of an attempt to the caller as it arrives; while nothing was sent, another attempt may follow. */
import { Status, type StatusCode } from '../grpc/status.ts';
import type { MessageHead } from '../http2/head.ts';
import type { HeaderList } from '../http2/hpack/header-list.ts';
import type { Attempt } from './attempt.ts';
import type { CallWith } from './call-facts.ts';
import { endFields, ownFields, ownHead } from './end-fields.ts';
import type { Dependent, InboundCall } from './inbound-call.ts';
import { NO_FIELDS } from './local-reply.ts';
import { noteModelFailure } from './model-failures.ts';
import { notGrpc, withoutStatus } from './no-answer.ts';
import { endsBySize, isTooLarge, messageTooLarge, statusAlone } from './oversize.ts';
import { type ResponseInfo, responseInfo } from './response-info.ts';
import { holdsHead } from './retrying.ts';
import { type SettledCall, settleAttempt, settleFirstMessage } from './settlement.ts';
import { settleByReport } from './task-budget.ts';

/** The call whose answer is relayed. */
export type RelayedCall = SettledCall &
  InboundCall &
  Dependent &
  CallWith<
    'head' | 'settings' | 'stream' | 'request' | 'response' | 'progress' | 'lineage' | 'role',
    'answer' | 'retries'
  > & {
    /** The answer was sent completely, or waits for the caller to read. */
    completeAnswer(status: StatusCode): void;
  };

/** The head of a response arrived: it commits the call, unless the call holds it. */
export function relayHead(call: RelayedCall, attempt: Attempt, list: HeaderList, head: MessageHead): void {
  call.clock.onMovement();
  const { grpc } = call.info;
  if (grpc && !responseInfo(list, head).grpc) {
    notGrpc(call, attempt, list, head);
    return;
  }
  // gRPC clients ignore it, and on HEAD it gives the length of the response to GET.
  if (grpc || call.head.method === 'HEAD') attempt.stream!.expectedBytes = -1;
  if (isTooLarge(list, call.stream.connection) && endsBySize(call, attempt, 'initial metadata', list)) return;
  const own = ownHead(call, list, head);
  if (holdsHead(call, attempt)) attempt.heldHead = own;
  else commit(call, attempt, own);
}

/** Commits the call to this attempt: something goes downstream. */
function commit(call: RelayedCall, attempt: Attempt, head: HeaderList): void {
  attempt.heldHead = undefined;
  call.tries.hedging?.choose(attempt);
  call.response.sendHead(head);
  call.request.drop();
}

/** @returns how many bytes are processed, as `StreamHandler.onData` does */
export function relayData(
  call: RelayedCall,
  attempt: Attempt,
  buffer: Buffer,
  start: number,
  end: number,
  endStream: boolean,
): number {
  const { response } = call;
  const { framing } = response;
  // Servers may flush a head, or end without a status, by an empty DATA frame: no message has begun.
  if (end === start && framing !== undefined) {
    if (endStream) withoutStatus(call, attempt);
    return 0;
  }
  if (!attempt.answered) settleFirstMessage(call, attempt, call.context.clock());
  call.clock.onMovement();
  if (attempt.heldHead !== undefined) commit(call, attempt, attempt.heldHead);
  if (framing === undefined) {
    const sent = response.sendData(buffer, start, end, endStream);
    if (endStream) complete(call, attempt, Status.OK, undefined);
    return sent;
  }
  if (!framing.advance(buffer, start, end, call.settings.maxMessageBytes)) {
    messageTooLarge(call, 'response', framing.messageBytes);
    return end - start;
  }
  attempt.scanner?.feed(buffer, start, end);
  const sent = response.sendData(buffer, start, end, false);
  if (endStream) withoutStatus(call, attempt);
  return sent;
}

/** The response ended with these fields: trailers, or a Trailers-Only response. */
export function relayEnd(call: RelayedCall, attempt: Attempt, list: HeaderList, head: MessageHead): void {
  if (call.info.grpc) relayStatus(call, attempt, list, head);
  else relayHttpEnd(call, attempt, list);
}

/** Handles the end of a response to a request that is not gRPC. */
function relayHttpEnd(call: RelayedCall, attempt: Attempt, list: HeaderList): void {
  const tooLarge = isTooLarge(list, call.stream.connection);
  if (tooLarge && !call.progress.isAnswering) {
    endsBySize(call, attempt, 'initial metadata', list);
    return;
  }
  // HTTP trailers may be dropped (RFC 9110 §6.5.1).
  call.response.sendEnd(tooLarge ? NO_FIELDS : list, Status.OK, undefined);
  complete(call, attempt, Status.OK, undefined);
}

/** Judges the status of a gRPC answer. Another attempt follows it, or it goes downstream. */
function relayStatus(call: RelayedCall, attempt: Attempt, list: HeaderList, head: MessageHead): void {
  const info = responseInfo(list, head);
  const { status } = info;
  if (status === -1) {
    if (info.grpc) withoutStatus(call, attempt);
    else notGrpc(call, attempt, list, head);
    return;
  }
  settleAttempt(call, attempt, 'status', status, 0, info);
  settleByReport(call, list);
  if (status !== Status.OK || attempt.taskFailure !== 'none') noteModelFailure(call, list);
  if (status !== Status.OK && !call.progress.isAnswering && call.retries(attempt)) {
    attempt.stopSending();
    return;
  }
  const tooLarge = isTooLarge(list, call.stream.connection);
  if (tooLarge && status === Status.OK && endsBySize(call, attempt, 'trailers', list)) return;
  if (attempt.heldHead !== undefined) commit(call, attempt, attempt.heldHead);
  else call.tries.hedging?.choose(attempt);
  const own = ownFields(call, attempt, list, info);
  const alone = tooLarge ? statusAlone(list, status, head.kind === 'response') : own;
  if (tooLarge) call.progress.explain('headers_too_large');
  const extra = endFields(call, attempt, status, info);
  call.response.sendEnd(list.oversize ? alone : own, status, extra, alone);
  complete(call, attempt, status, info);
}

/** The response ended normally: the caller has all of it, or the rest is queued. */
function complete(
  call: RelayedCall,
  attempt: Attempt,
  status: StatusCode,
  info: ResponseInfo | undefined,
): void {
  settleAttempt(call, attempt, 'status', status, 0, info);
  attempt.stopSending();
  call.completeAnswer(status);
}
