/** Handles responses to gRPC calls that are no gRPC answers. */
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

/** A response that is no gRPC answer is retried, or becomes an error of the call. */

/** Handles the response of a proxy or a web server (gRPC, "HTTP to gRPC Status Code Mapping"). */
export function notGrpc(call: UnansweredCall, attempt: Attempt, list: HeaderList, head: MessageHead): void {
  const status = statusFromHttp(head.status);
  attempt.cancel();
  settleAttempt(call, attempt, 'http_status', status, head.status, undefined);
  if (call.retries(attempt)) return;
  call.answer(replyToNotGrpc(attempt, status, head.status, responseInfo(list, head).contentType));
}

/** Handles a gRPC response without `grpc-status`, which is INTERNAL however clean its end looks, as for gRPC's clients. */
export function withoutStatus(call: UnansweredCall, attempt: Attempt): void {
  attempt.cancel();
  settleAttempt(call, attempt, 'no_status', Status.INTERNAL, 0, undefined);
  if (call.retries(attempt)) return;
  const message = `${attempt.endpoint.address} ended the response without a gRPC status`;
  call.answer(reply('upstream_protocol', message));
}
