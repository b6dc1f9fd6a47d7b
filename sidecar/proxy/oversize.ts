/** Answers for heads, trailers and messages that are larger than the sidecar or their receiver accepts. */
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
 * Handles lists and messages that are larger than the sidecar or their receiver accepts. They cost their own call and no
 * other: some HTTP/2 libraries close the connection of a peer that sends header lists above their announced limit.
 */

type OversizeCall = SettledCall & CallWith<'stream' | 'role', 'answer'>;

/** Trailers up to this size are sent at once, even to a peer that leaves much unread. */
const SHORT_TRAILERS_BYTES = 4_096;

/** Whether this downstream does not accept a response's list as it is. */
export function isTooLarge(list: HeaderList, { peer }: StreamConnection): boolean {
  return list.oversize || list.listBytes > peer.maxHeaderListBytes;
}

/** The answer in place of initial metadata, or of trailers with status OK, that exceed the caller's limit. */
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
  // 431 would blame the caller's own request.
  return { ...local, httpStatus: 502 };
}

/** Says why the sidecar itself rejects a list. @param maxBytes the listener's limit */
function ownLimit({ context }: CallWith<'context'>, { listBytes }: HeaderList, maxBytes: number): string {
  return listBytes > maxBytes
    ? `at most ${maxBytes} are taken (${context.listener}.limits.max_header_bytes)`
    : 'made by references to the same few fields, and more of them than one peer may send';
}

/**
 * Tells the caller that the list is too large for it, or for the sidecar.
 *
 * @returns whether this ended the call; false while others wait for the same task and may accept the list
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
  if (!list.oversize && call.role.run?.outlivesAnswer(local) === true) return false;
  attempt.cancel();
  settleAttempt(call, attempt, 'own_limit', local.status, 0, undefined);
  call.answer(local);
  return true;
}

/** The answer to a request whose header fields or trailers exceed our own limit. */
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

/** The answer to a request whose trailers exceed the endpoint's limit, or would add to what it leaves unread. */
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
  // Unlike DATA, trailers do not wait in a bounded queue.
  if (list.listBytes > SHORT_TRAILERS_BYTES && leavesMuchUnread(connection))
    return reply('not_read', `${address} does not read the request, and its trailers are long`);
  return undefined;
}

/**
 * The end of a failed call without its metadata: the app's code, message and pushback, and our reason. A status of OK
 * is not kept in this way: the caller would take an incomplete answer for a complete one.
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

/** Ends a call whose message exceeds our limit. */
export function messageTooLarge(
  call: CallWith<'settings', 'answer'>,
  what: 'request' | 'response',
  bytes: number,
): void {
  const most = `at most ${call.settings.maxMessageBytes} are allowed (inbound.max_message_bytes)`;
  const message = `a ${what} message has ${bytes} bytes; ${most}`;
  call.answer({ ...reply('message_too_large', message), byCaller: what === 'request' });
}
