/** Answers those who ask for the rest of a stream: the inbound side. */
import { streamsResumeMs } from '../grpc/sidecar-settings.ts';
import type { MessageHead } from '../http2/head.ts';
import { heldRequests } from '../http2/held-requests.ts';
import type { Stream } from '../http2/streams.ts';
import { sendLocalReply } from './local-reply.ts';
import { reply } from './reasons.ts';
import type { RequestInfo } from './request-info.ts';
import type { ResumableStream } from './resumable-stream.ts';
import type { Resumptions } from './resumptions.ts';
import { parseResume, parseStreamName } from './stream-names.ts';

/** Who asks for a stream. */
interface Asker {
  readonly callerScope: string;
  readonly head: MessageHead;
}

/**
 * Serves a request for the rest of a stream, or a task that has come before. A caller gets the rest of its own stream alone:
 * by the name of the run, which nobody can guess, and with the same method and the same scope as its call. A name that is not
 * known here is refused, and never begins a run.
 *
 * @returns false when it is neither, and has to run
 */
export function serveReturn(
  resumptions: Resumptions,
  stream: Stream,
  info: RequestInfo,
  by: Asker,
  ends: boolean,
): boolean {
  if (!info.grpc || streamsResumeMs(stream.connection.peer) === 0) return false;
  if (info.resume === '') return rejoin(resumptions, stream, info.firstStream, by);
  const wanted = parseResume(info.resume);
  const found = wanted === undefined ? undefined : resumptions.named(wanted.run);
  if (found !== undefined && ends && isOf(found, by)) goOn(resumptions, stream, found, wanted!.byte, by);
  else refuse(resumptions, stream, by);
  return true;
}

/** The task was sent again, because the head of its answer has not arrived. */
function rejoin(resumptions: Resumptions, stream: Stream, firstStream: string, by: Asker): boolean {
  const name = parseStreamName(firstStream);
  const found = name === undefined ? undefined : resumptions.cameOn(name);
  if (found === undefined || !isOf(found, by)) return false;
  goOn(resumptions, stream, found, 0, by);
  return true;
}

/** Whether the stream is that of this caller and method. */
function isOf({ callerScope, path }: ResumableStream, by: Asker): boolean {
  return callerScope === by.callerScope && path === by.head.path;
}

function goOn(
  resumptions: Resumptions,
  stream: Stream,
  found: ResumableStream,
  byte: number,
  by: Asker,
): void {
  if (found.call?.request.ended === false || !found.mayResumeAt(byte)) {
    refuse(resumptions, stream, by);
    return;
  }
  heldRequests.pass(stream);
  resumptions.goOn(found, stream, byte);
}

function refuse({ environment }: Resumptions, stream: Stream, { head }: Asker): void {
  heldRequests.pass(stream);
  environment.stats.reject('stream_cut');
  stream.unserved = true;
  const message =
    'this stream can not be resumed here: its run is over, or was never here; send the task again';
  sendLocalReply(stream, reply('stream_cut', message), true, false, head.method);
}
