/** What the REST API says of a submitted task. */
import { Metadata, type ServiceError, type StatusObject, status } from '@grpc/grpc-js';
import { maxMessageBytes } from '../../protocol/definitions.ts';
import { modelFailureIn } from '../../protocol/model-failure.ts';
import type { Field, SubmittedTask, TaskEnd } from '../../protocol/tasks-client.ts';
import { ApiError, fromServiceError } from '../api-error.ts';
import { type Release, smallOutputBytes } from './answer-room.ts';
import type { SubmittedTasks } from './client.ts';

/** A task without its output. */
export function viewOf(task: SubmittedTask): Record<string, unknown> {
  const { id, agent_type, state, run, lost_runs, cause, runner } = task;
  return {
    task_id: id,
    state: state.toLowerCase(),
    agent_type,
    run,
    lost_runs,
    submitted_at: timeOf(task.submitted_at_ms),
    started_at: timeOf(task.started_at_ms),
    ended_at: timeOf(task.ended_at_ms),
    deadline_at: timeOf(task.deadline_at_ms),
    ...(runner === '' ? {} : { runner }),
    ...(cause === '' ? {} : { cause }),
  };
}

/** A task with what it ended with, except for the chunks of a stream. */
export function endedViewOf(task: SubmittedTask): Record<string, unknown> {
  const view = viewOf(task);
  const { state, end, agent_type, cause } = task;
  if (state === 'DEAD')
    return { ...view, ...errorOf(task, new ApiError(503, 'UNAVAILABLE', died(agent_type, cause))) };
  if (state === 'CANCELLED') return { ...view, ...errorOf(task, new ApiError(499, 'CANCELLED', cause)) };
  if (state !== 'DONE') return view;
  if (end === null) return { ...view, ...errorOf(task, new ApiError(404, 'NOT_FOUND', resultGone)) };
  if (end.status !== status.OK)
    return { ...view, ...errorOf(task, fromServiceError(asServiceError(end), agent_type)) };
  const measured = Math.max(0, task.ended_at_ms - task.started_at_ms);
  if (end.answer === null) return { ...view, status: 'SUCCESS', latency_ms: measured };
  const { output, status: outcome, latency_ms, tokens_used } = end.answer;
  const failed = outcome === 'FAILED' || outcome === 'TIMEOUT';
  const model = failed ? modelFailureIn(metadataFrom(end.trailers)) : undefined;
  return {
    ...view,
    output,
    status: outcome,
    latency_ms,
    tokens_used,
    ...(model === undefined ? {} : { model }),
  };
}

/** Room in the gateway's memory for what one client asks for. */
export interface OutputRoom {
  readonly signal: AbortSignal;
  take(bytes: number): Promise<Release>;
}

/** A task's view, and the room that its output takes until it is sent. */
interface HeldView {
  readonly view: Record<string, unknown>;
  readonly release: Release;
}

/** A task with its answer, of which a large one is read when there is room for it; not the chunks of a stream. */
export async function answeredViewOf(
  task: SubmittedTask,
  tasks: SubmittedTasks,
  room: OutputRoom,
): Promise<HeldView> {
  const { id, end, end_bytes } = task;
  const isLeftOut = end?.answer === null && end.status === status.OK && end_bytes > smallOutputBytes;
  if (!isLeftOut) return { view: endedViewOf(task), release: () => {} };
  const release = await room.take(end_bytes);
  try {
    return { view: endedViewOf(await tasks.whole(id)), release };
  } catch (error) {
    release();
    throw error;
  }
}

/** Also with the chunks of a stream, joined. */
export async function wholeViewOf(
  task: SubmittedTask,
  tasks: SubmittedTasks,
  room: OutputRoom,
): Promise<HeldView> {
  const answered = await answeredViewOf(task, tasks, room);
  const isStream = task.end?.status === status.OK && !('output' in answered.view);
  if (!isStream) return answered;
  answered.release();
  return joinedChunks(task, tasks, room);
}

async function joinedChunks(task: SubmittedTask, tasks: SubmittedTasks, room: OutputRoom): Promise<HeldView> {
  const view = endedViewOf(task);
  let output: string[] = [];
  let chars = 0;
  let release: Release | undefined;
  try {
    for await (const { event, chunk } of tasks.watch(task.id, 0, room.signal)) {
      if (event === 'run') {
        output = [];
        chars = 0;
      }
      const text = chunk?.chunk?.chunk ?? '';
      output.push(text);
      chars += text.length;
      // Nobody knows how long it becomes.
      if (chars > smallOutputBytes) release ??= await room.take(maxMessageBytes);
      if (chars > maxMessageBytes) throw new ApiError(413, 'RESOURCE_EXHAUSTED', tooLarge);
    }
    return { view: { ...view, output: output.join('') }, release: release ?? (() => {}) };
  } catch (error) {
    release?.();
    if (error instanceof ApiError && error.httpStatus === 413)
      return { view: { ...view, ...errorOf(task, error) }, release: () => {} };
    throw error;
  }
}

const resultGone =
  'the result was kept for as long as bus.results.max_age says, and is gone; submit the task again';
const tooLarge = 'the output is too large for one answer; read it from …/events';

function died(agentType: string, cause: string): string {
  return `the ${agentType} agent gave no answer${cause === '' ? '' : `: ${cause}`}`;
}

function errorOf({ id }: SubmittedTask, error: ApiError): { error: object } {
  return error.toBody(id);
}

/** The end as the error that a call of the agent would have failed with. */
function asServiceError({ status: code, message, trailers }: TaskEnd): ServiceError {
  const given: StatusObject = { code, details: message, metadata: metadataFrom(trailers) };
  return Object.assign(new Error(message), given) as ServiceError;
}

function metadataFrom(fields: readonly Field[]): Metadata {
  const metadata = new Metadata();
  for (const { name, value } of fields) {
    if (name.startsWith('grpc-') && name !== 'grpc-retry-pushback-ms') continue;
    try {
      metadata.add(name, name.endsWith('-bin') ? Buffer.from(value, 'base64') : value);
    } catch {
      // A field that gRPC can't carry says nothing to us.
    }
  }
  return metadata;
}

/** ISO 8601; undefined for what has not happened. */
function timeOf(ms: number): string | undefined {
  return ms === 0 ? undefined : new Date(ms).toISOString();
}
