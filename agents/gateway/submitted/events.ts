/** The events of a submitted task, for a client that may come back and go on where it was. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { SubmittedTask, TaskEvent } from '../../protocol/tasks-client.ts';
import { ApiError } from '../api-error.ts';
import { EventStream } from '../event-stream.ts';
import type { SubmittedTasks } from './client.ts';
import { answeredViewOf, type OutputRoom, viewOf } from './view.ts';

/** How long an EventSource waits before it connects again. */
const reconnectMs = 1000;

/**
 * Answers with the events of a task after those that the client has. Its id is the sequence of the last chunk, so that
 * `Last-Event-ID` resumes. The last event, `done`, has the id after it: a client that comes back with that one has all,
 * and the answer 204 tells an EventSource to stop.
 *
 * The stream ends without `done` when the sidecar or the gateway goes away; an EventSource connects again by itself.
 */
export async function sendEvents(
  tasks: SubmittedTasks,
  id: string,
  request: FastifyRequest,
  reply: FastifyReply,
  room: OutputRoom,
): Promise<FastifyReply> {
  const { signal } = room;
  const held = lastEventId(request);
  const task = await tasks.get(id);
  const ended = task.state !== 'QUEUED' && task.state !== 'RUNNING';
  if (ended && held === task.last_sequence + 1) return reply.code(204).send();
  reply.hijack();
  const stream = new EventStream(reply.raw, reconnectMs);
  try {
    for await (const event of tasks.watch(id, held + 1, signal)) {
      if (event.end) await sendEnd(stream, event.end, tasks, room);
      else await send(stream, event, signal);
    }
  } catch (error) {
    if (!reply.raw.destroyed && !signal.aborted)
      request.log.info({ err: error }, 'the events of a task ended early');
  } finally {
    stream.end();
  }
  return reply;
}

function send(stream: EventStream, event: TaskEvent, signal: AbortSignal): Promise<void> {
  if (event.run) {
    const { run, after_sequence } = event.run;
    return stream.send('run', { run }, signal, { id: after_sequence });
  }
  if (event.chunk) {
    const { sequence, run, chunk } = event.chunk;
    const data = { chunk: chunk?.chunk ?? '', is_final: chunk?.is_final ?? false, run };
    return stream.send('chunk', data, signal, { id: sequence });
  }
  return stream.send('state', viewOf(event.state!), signal);
}

async function sendEnd(
  stream: EventStream,
  task: SubmittedTask,
  tasks: SubmittedTasks,
  room: OutputRoom,
): Promise<void> {
  const { view, release } = await answeredViewOf(task, tasks, room);
  try {
    await stream.send('done', view, room.signal, { id: task.last_sequence + 1 });
  } finally {
    release();
  }
}

/** The sequence of the last chunk that the client has; 0 without one. */
function lastEventId({ headers }: FastifyRequest): number {
  const given = headers['last-event-id'] ?? '0';
  if (typeof given === 'string' && /^\d{1,15}$/.test(given)) return Number(given);
  throw new ApiError(422, 'INVALID_ARGUMENT', 'Last-Event-ID is the id of an event of this stream', {
    field: 'Last-Event-ID',
  });
}
