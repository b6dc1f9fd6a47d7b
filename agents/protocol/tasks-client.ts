/** The client of outrigger.v1.Tasks, which sidecars with a bus serve. */
import { type ClientReadableStream, credentials, type Metadata, makeClientConstructor } from '@grpc/grpc-js';
import { type CallOptions, channelOptions, type UnaryMethod } from './agent-client.ts';
import { maxMessageBytes, tasksService } from './definitions.ts';
import type { TaskChunk, TaskRequest, TaskResponse } from './messages.ts';

export type TaskState = 'TASK_STATE_UNSPECIFIED' | 'QUEUED' | 'RUNNING' | 'DONE' | 'DEAD' | 'CANCELLED';

/** A field of a head or of trailers; binary values are in base64. */
export interface Field {
  name: string;
  value: string;
}

/** How the agent ended the call. */
export interface TaskEnd {
  /** The gRPC status. */
  status: number;
  message: string;
  answer: TaskResponse | null;
  head: Field[];
  trailers: Field[];
}

/** Times are milliseconds since 1970; 0 for what has not happened. */
export interface SubmittedTask {
  id: string;
  agent_type: string;
  state: TaskState;
  generation: number;
  run: number;
  lost_runs: number;
  submitted_at_ms: number;
  started_at_ms: number;
  ended_at_ms: number;
  deadline_at_ms: number;
  last_sequence: number;
  cause: string;
  /** Null unless the task is done and its result is still kept. */
  end: TaskEnd | null;
  /** The name of the agent that runs it; '' when nobody does, or it is not known. */
  runner: string;
  /** What the bus keeps of the end. */
  end_bytes: number;
}

export interface SubmitRequest {
  task: Partial<TaskRequest>;
  method: 'PROCESS_TASK' | 'STREAM_PROCESS';
  timeout_ms: number;
  idempotency_key: string;
  without_large_answer?: boolean;
}

export interface TaskEvent {
  event: 'state' | 'run' | 'chunk' | 'end';
  state?: SubmittedTask;
  run?: { run: number; after_sequence: number };
  chunk?: { sequence: number; run: number; chunk: TaskChunk | null };
  end?: SubmittedTask;
}

export interface ListRequest {
  state: TaskState;
  agent_type: string;
  page_size: number;
  page_token: string;
}

export interface TaskList {
  tasks: SubmittedTask[];
  next_page_token: string;
}

/** A client of outrigger.v1.Tasks over one channel. */
export interface TasksClient {
  Submit: UnaryMethod<SubmitRequest, SubmittedTask>;
  Get: UnaryMethod<{ id: string; without_large_answer?: boolean }, SubmittedTask>;
  Cancel: UnaryMethod<{ id: string; without_large_answer?: boolean }, SubmittedTask>;
  List: UnaryMethod<ListRequest, TaskList>;
  Watch(
    request: { id: string; from_sequence: number; without_large_answer?: boolean },
    metadata: Metadata,
    options: CallOptions,
  ): ClientReadableStream<TaskEvent>;
  close(): void;
}

/** What a task has around the largest answer or request of an agent. */
const aroundMessageBytes = 256 * 1024;

const Client = makeClientConstructor(tasksService, 'Tasks');

/** Opens a channel to a sidecar. @param address `host:port` or `unix:/path` */
export function connectTasks(address: string): TasksClient {
  const limit = maxMessageBytes + aroundMessageBytes;
  const options = {
    ...channelOptions,
    'grpc.max_receive_message_length': limit,
    'grpc.max_send_message_length': limit,
  };
  return new Client(address, credentials.createInsecure(), options) as unknown as TasksClient;
}
