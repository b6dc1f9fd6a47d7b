// A replica's call to the next agent, through its sidecar, like an agent's: a subtask with its own id, the trace and
// the deadline of the task that it serves, and the same end.
import { Metadata, type ServiceError } from '@grpc/grpc-js';
import { type AgentClient, connectAgent } from '../../../agents/protocol/agent-client.ts';
import { NEXT_AUTHORITY } from './behaviour.ts';

let subtasks = 0;
let client: AgentClient | undefined;

const UNIT_MS: Readonly<Record<string, number>> = { n: 1e-6, u: 1e-3, m: 1, S: 1e3, M: 60e3, H: 3600e3 };

function deadlineOf(timeout: string | undefined): { deadline?: number } {
  const found = /^(\d+)([numSMH])$/.exec(timeout ?? '');
  return found === null ? {} : { deadline: Date.now() + Number(found[1]) * UNIT_MS[found[2]!]! };
}

/** The gRPC status of the call. */
export function callNext(
  port: number,
  task: string,
  streaming: boolean,
  headers: Record<string, string>,
  signal: AbortSignal,
): Promise<number> {
  client ??= connectAgent(`127.0.0.1:${port}`, NEXT_AUTHORITY);
  const metadata = new Metadata();
  if (headers['traceparent'] !== undefined) metadata.set('traceparent', headers['traceparent']);
  const request = {
    task_id: `${task}.${process.pid}.${subtasks++}`,
    correlation_id: task,
    input: task,
    metadata: { parent_task_id: task },
  };
  const options = deadlineOf(headers['grpc-timeout']);
  const made = client;
  return new Promise((resolve) => {
    const call = streaming
      ? made.StreamProcess(request, metadata, options)
      : made.ProcessTask(request, metadata, options, () => {});
    call.on('error', () => {});
    if (streaming) call.on('data', () => {});
    call.on('status', ({ code }: { code: ServiceError['code'] }) => resolve(code));
    signal.addEventListener('abort', () => call.cancel(), { once: true });
  });
}
