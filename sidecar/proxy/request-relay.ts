/** Sends the request of a call to its attempt as it arrives, and keeps it for another one. */
import type { HeaderList } from '../http2/hpack/header-list.ts';
import type { Stream } from '../http2/streams.ts';
import type { Attempt } from './attempt.ts';
import { type AdmittedFacts, type CallWith, isAdmitted } from './call-facts.ts';
import { readTracedTask } from './call-tracing.ts';
import { messageTooLarge, replyToOversizeRequest } from './oversize.ts';
import { type SendingCall, sendRequestHead, sendRequestTrailers } from './request-head.ts';
import { awaitAnswer } from './settlement.ts';

/** The call whose request arrives. */
type RequestingCall = CallWith<
  | 'context'
  | 'stream'
  | 'settings'
  | 'info'
  | 'request'
  | 'progress'
  | 'clock'
  | 'attempt'
  | 'task'
  | 'trace'
  | 'cluster'
  | 'circuit'
  | 'tries',
  'answer' | 'readTask'
> & {
  /** The first message arrived, or will not arrive. */
  onFirstMessage(): void;
};
/** The call whose attempt has a stream. */
type OpenedCall = SendingCall & AdmittedFacts & CallWith<'request' | 'clock' | 'task', 'answer' | 'readTask'>;

/** More of the request arrived. @returns how many bytes are processed, as `StreamHandler.onData` does */
export function relayRequestData(
  call: RequestingCall,
  buffer: Buffer,
  start: number,
  end: number,
  endStream: boolean,
): number {
  const { attempt, progress, request } = call;
  const { framing } = request;
  if (framing !== undefined && !framing.advance(buffer, start, end, call.settings.maxMessageBytes)) {
    messageTooLarge(call, 'request', framing.messageBytes);
    return end - start;
  }
  request.ended = endStream;
  call.clock.onMovement();
  if (attempt?.stream === undefined || attempt.ended || !isAdmitted(call)) {
    request.add(buffer, start, end);
    if (progress.isAwaitingMessage) call.onFirstMessage();
    // Bytes kept for a later attempt count against the stream's window: return no credit yet.
    return 0;
  }
  if (!progress.isAnswering) request.keep(buffer, start, end, call.cluster.settings.retry.bufferBytes);
  if (call.trace && call.task === undefined) readTracedTask(call);
  attempt.send(buffer, start, end, endStream);
  if (endStream) awaitAnswer(call, attempt);
  return request.credit(attempt);
}

/** The request ended with trailers. */
export function relayRequestTrailers(call: RequestingCall, list: HeaderList): void {
  const { attempt, progress, request } = call;
  if (list.oversize) {
    call.answer(replyToOversizeRequest(call, list, 'trailers'));
    return;
  }
  request.trailers = list;
  request.ended = true;
  call.clock.onMovement();
  if (progress.isAwaitingMessage) call.onFirstMessage();
  else if (attempt !== undefined) sendRequestTrailers(call, attempt);
}

/** The attempt has a stream: sends the part of the request that has arrived. */
export function sendRequest(call: OpenedCall, attempt: Attempt, stream: Stream): void {
  const { request } = call;
  sendRequestHead(call, stream, request.headOnly);
  if (call.trace && call.task === undefined) readTracedTask(call);
  request.sendTo(attempt, call.cluster.settings.retry.bufferBytes);
  if (request.ended) awaitAnswer(call, attempt);
  creditRequest(call, attempt);
  sendRequestTrailers(call, attempt);
}

/** Request bytes went out to the attempt: the caller may send as many more. */
export function creditRequest(call: CallWith<'stream' | 'request' | 'clock'>, attempt: Attempt): void {
  const { clock, request, stream } = call;
  const bytes = request.credit(attempt);
  if (bytes <= 0) return;
  clock.onMovement();
  stream.connection.consume(stream, bytes);
}
