import { Status, statusFromHttp } from '../grpc/status.ts';
import type { MessageHead } from '../http2/head.ts';
import type { HeaderList } from '../http2/hpack/header-list.ts';
import type { Attempt } from './attempt.ts';
import type { CallWith } from './call-facts.ts';
import { replyToNotGrpc } from './failure-reply.ts';
import { reply } from './reasons.ts';
import { responseInfo } from './response-info.ts';
import { type SettledCall, settleAttempt } from './settlement.ts';

type UnansweredCall = SettledCall & CallWith<never, 'answer' | 'retries'>;

/** Responses to gRPC calls that are no answers of gRPC's: another attempt follows, or the caller is told. */

/** The answer of a proxy or a web server (gRPC, "HTTP to gRPC Status Code Mapping"). */
export function notGrpc(call: UnansweredCall, attempt: Attempt, list: HeaderList, head: MessageHead): void {
  const status = statusFromHttp(head.status);
  attempt.cancel();
  settleAttempt(call, attempt, 'http_status', status, head.status, undefined);
  if (call.retries(attempt)) return;
  call.answer(replyToNotGrpc(attempt, status, head.status, responseInfo(list, head).contentType));
}

/** A gRPC response without `grpc-status` is no answer, however clean its end looks: INTERNAL, as gRPC's clients say. */
export function withoutStatus(call: UnansweredCall, attempt: Attempt): void {
  attempt.cancel();
  settleAttempt(call, attempt, 'no_status', Status.INTERNAL, 0, undefined);
  if (call.retries(attempt)) return;
  const message = `${attempt.endpoint.address} ended the response without a gRPC status`;
  call.answer(reply('upstream_protocol', message));
}
