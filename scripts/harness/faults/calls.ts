// Calls that an agent makes through its sidecar, and their results.
import { randomBytes } from 'node:crypto';
import { Metadata, type StatusObject, status } from '@grpc/grpc-js';
import { type AgentClient, connectAgent } from '../../../agents/protocol/agent-client.ts';
import type { TaskChunk, TaskResponse, TaskStatus } from '../../../agents/protocol/messages.ts';
import { NEXT_AUTHORITY } from './behaviour.ts';
import type { Owner } from './proxy.ts';

export interface CallRecord {
  readonly task: string;
  readonly streaming: boolean;
  readonly startedMs: number;
  endedMs: number;
  /** The gRPC status; undefined while the call is in flight. */
  code: status | undefined;
  details: string;
  /** `outrigger-reason`, if the sidecar itself answered. */
  reason: string;
  /** The status of the TaskResponse. */
  taskStatus: TaskStatus | undefined;
  /** The received messages of a stream. */
  chunks: number;
  /** The replica that answered. */
  servedBy: string;
}

export interface RunningCall {
  readonly record: CallRecord;
  readonly ended: Promise<CallRecord>;
  cancel(): void;
}

let tasks = 0;

export class Caller {
  private readonly client: AgentClient;

  /** @param port the port of a proxy's outbound listener */
  constructor(owner: Owner, port: number) {
    this.client = connectAgent(`127.0.0.1:${port}`, NEXT_AUTHORITY);
    owner.teardown(() => this.client.close());
  }

  /** Never rejects: an error gives a record with its code. */
  call({
    streaming = false,
    timeoutMs = 2_000,
  }: {
    streaming?: boolean;
    timeoutMs?: number;
  } = {}): RunningCall {
    const task = `task-${process.pid}-${++tasks}`;
    const record: CallRecord = {
      task,
      streaming,
      startedMs: Date.now(),
      endedMs: Number.POSITIVE_INFINITY,
      code: undefined,
      details: '',
      reason: '',
      taskStatus: undefined,
      chunks: 0,
      servedBy: '',
    };
    const metadata = new Metadata();
    metadata.set('traceparent', `00-${randomBytes(16).toString('hex')}-${randomBytes(8).toString('hex')}-01`);
    const request = { task_id: task, correlation_id: task, agent_type: 'any', input: task };
    const options = timeoutMs === 0 ? {} : { deadline: Date.now() + timeoutMs };
    const call = streaming
      ? this.client.StreamProcess(request, metadata, options)
      : this.client.ProcessTask(request, metadata, options, (_error, answer) => noteAnswer(record, answer));
    call.on('error', () => {});
    if (streaming) call.on('data', ({ chunk }: TaskChunk) => noteChunk(record, chunk));
    const ended = new Promise<CallRecord>((resolve) => {
      call.on('status', (end: StatusObject) => {
        record.endedMs = Date.now();
        record.code = end.code;
        record.details = end.details;
        record.reason = String(end.metadata.get('outrigger-reason')[0] ?? '');
        // The answer's callback follows the status event.
        setImmediate(() => resolve(record));
      });
    });
    return { record, ended, cancel: () => call.cancel() };
  }
}

function noteAnswer(record: CallRecord, answer: TaskResponse | undefined): void {
  if (answer === undefined) return;
  record.taskStatus = answer.status;
  record.servedBy = answer.output;
}

function noteChunk(record: CallRecord, chunk: string): void {
  record.chunks++;
  record.servedBy = chunk;
}

export const isOk = ({ code }: CallRecord): boolean => code === status.OK;
