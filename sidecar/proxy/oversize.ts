import type { StatusCode } from '../grpc/status.ts';
import { decodeStatusMessage, encodeStatusMessage } from '../grpc/status-message.ts';
import { HeaderList } from '../http2/hpack/header-list.ts';
import type { StreamConnection } from '../http2/streams.ts';
import { leavesMuchUnread } from '../http2/unread-output.ts';
import type { Attempt } from './attempt.ts';
import type { CallWith } from './call-facts.ts';
import { TRAILERS_ONLY } from './local-reply.ts';
import { type LocalReply, reply, replyToCaller } from './reasons.ts';
import { type SettledCall, settleAttempt } from './settlement.ts';
import { REASON_HEADER } from './sidecar-fields.ts';

/**
 * What is larger than we take, or than those take to whom it goes. It costs its own call and no other: some HTTP/2
 * libraries end the connection of whoever sends them longer header lists than they have said that they take.
 */

type OversizeCall = SettledCall & CallWith<'stream' | 'response', 'answer'>;

/** Trailers of this size are sent at once, whoever reads them. */
const SHORT_TRAILERS_BYTES = 4_096;

/** Whether a response's list can't go to this downstream as it is. */
export function isTooLarge(list: HeaderList, { peer }: StreamConnection): boolean {
  return list.oversize || list.listBytes > peer.maxHeaderListBytes;
}

/** The answer in place of initial metadata, or of trailers with status OK, that are larger than the caller takes. */
export function replyToOversize(
  call: CallWith<'stream'>,
  from: string,
  what: Part,
  list: HeaderList,
): LocalReply {
  const { maxHeaderListBytes } = call.stream.connection.peer;
  const why = `at most ${maxHeaderListBytes} are taken by the caller (its SETTINGS_MAX_HEADER_LIST_SIZE)`;
  return { ...tooLarge(from, what, list, why), byCaller: true };
}

type Part = 'initial metadata' | 'trailers';

function tooLarge(from: string, what: Part, list: HeaderList, why: string): LocalReply {
  const { listBytes } = list;
  const local = reply('headers_too_large', `${from} answered with ${what} of ${listBytes} bytes; ${why}`);
  // 431 would say that it is the caller's own.
  return { ...local, httpStatus: 502 };
}

/** Why a list is oversize here. @param maxBytes what the listener's limit is */
function ownLimit({ context }: CallWith<'context'>, { listBytes }: HeaderList, maxBytes: number): string {
  return listBytes > maxBytes
    ? `at most ${maxBytes} are taken (${context.listener}.limits.max_header_bytes)`
    : 'made by references to the same few fields, and more of them than one peer may send';
}

/**
 * Tells the caller that the list is too large for it, or for us.
 *
 * @returns whether with that the call is over; false while others wait for the same task, who may take it
 */
export function endsBySize(call: OversizeCall, attempt: Attempt, what: Part, list: HeaderList): boolean {
  const { endpoint, stream } = attempt;
  const local = list.oversize
    ? tooLarge(
        endpoint.address,
        what,
        list,
        ownLimit(call, list, stream!.connection.limits.maxHeaderListBytes),
      )
    : replyToOversize(call, endpoint.address, what, list);
  if (!list.oversize && call.response.run?.outlivesAnswer(local) === true) return false;
  attempt.cancel();
  settleAttempt(call, attempt, 'own_limit', local.status, 0, undefined);
  call.answer(local);
  return true;
}

/** The answer to a request whose header fields, or trailers, are more than we take. */
export function replyToOversizeRequest(
  call: CallWith<'context' | 'stream'>,
  list: HeaderList,
  what = 'header fields',
): LocalReply {
  const { maxHeaderListBytes } = call.stream.connection.limits;
  const said = `the request's ${what} have ${list.listBytes} bytes`;
  const why = ownLimit(call, list, maxHeaderListBytes);
  return replyToCaller('headers_too_large', `${said}; ${why}; send fewer or shorter metadata`);
}

/** The answer to a request whose trailers are more than its endpoint takes, or than it reads at present. */
export function refuseTrailers(
  { endpoint: { address } }: Attempt,
  connection: StreamConnection,
  list: HeaderList,
): LocalReply | undefined {
  const { maxHeaderListBytes } = connection.peer;
  if (list.listBytes > maxHeaderListBytes) {
    const said = `the request's trailers have ${list.listBytes} bytes, and ${address} takes ${maxHeaderListBytes}`;
    return replyToCaller('headers_too_large', `${said}; send fewer or shorter metadata`);
  }
  // Unlike DATA they do not wait in a queue that is bounded.
  if (list.listBytes > SHORT_TRAILERS_BYTES && leavesMuchUnread(connection))
    return reply('not_read', `${address} does not read the request, and its trailers are long`);
  return undefined;
}

/**
 * The end of a call that has failed, without its metadata: the code, the message and the pushback that the app gave,
 * and our reason. A status of OK is not kept so: the caller would take what is missing for all there is.
 */
export function statusAlone(list: HeaderList, status: StatusCode, trailersOnly: boolean): HeaderList {
  const fields: string[] = trailersOnly ? [...TRAILERS_ONLY.fields] : [];
  fields.push('grpc-status', String(status));
  const message = list.get('grpc-message');
  if (message !== undefined) fields.push('grpc-message', encodeStatusMessage(decodeStatusMessage(message)));
  const pushback = list.get('grpc-retry-pushback-ms');
  if (pushback !== undefined) fields.push('grpc-retry-pushback-ms', pushback);
  fields.push(REASON_HEADER, 'headers_too_large');
  return new HeaderList(fields);
}

/** Ends a call whose message is larger than we take. */
export function messageTooLarge(
  call: CallWith<'settings', 'answer'>,
  what: 'request' | 'response',
  bytes: number,
): void {
  const most = `at most ${call.settings.maxMessageBytes} are allowed (inbound.max_message_bytes)`;
  const message = `a ${what} message has ${bytes} bytes; ${most}`;
  call.answer({ ...reply('message_too_large', message), byCaller: what === 'request' });
}
