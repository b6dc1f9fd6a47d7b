/** Reads the few fields of `agent.TaskRequest` and `agent.TaskResponse` that a sidecar needs. */
import { FieldReader, WireType } from './protobuf.ts';

/** The service whose messages a sidecar can read. */
export const AGENT_SERVICE_PREFIX = '/agent.AgentService/';
export const PROCESS_TASK_PATH = '/agent.AgentService/ProcessTask';
export const STREAM_PROCESS_PATH = '/agent.AgentService/StreamProcess';
export const AGENT_HEALTH_CHECK_PATH = '/agent.AgentService/HealthCheck';

/** Longer ids and types are ignored, because they would become labels and keys. */
const MAX_TEXT_BYTES = 256;

/** The fields of an `agent.TaskRequest` that routing and balancing use. */
export interface TaskKey {
  readonly taskId: string;
  readonly correlationId: string;
  readonly agentType: string;
}

const NO_TASK: TaskKey = { taskId: '', correlationId: '', agentType: '' };

const reader = new FieldReader(Buffer.alloc(0), 0, 0);
/** The calls of a listener name the same few agents. */
let lastAgentType = '';

/** Reads `task_id` (1), `correlation_id` (2) and `agent_type` (3); of a malformed message, those before the fault. */
export function readTaskKey(buffer: Buffer, start: number, end: number): TaskKey {
  reader.open(buffer, start, end);
  let taskId = '';
  let correlationId = '';
  let agentType = '';
  while (reader.next()) {
    if (reader.wireType !== WireType.BYTES || reader.valueEnd - reader.valueStart > MAX_TEXT_BYTES) continue;
    // The last one wins, as in every protobuf parser.
    if (reader.field === 1) taskId = reader.text();
    else if (reader.field === 2) correlationId = reader.text();
    else if (reader.field === 3) agentType = reader.text(lastAgentType);
  }
  lastAgentType = agentType;
  const empty = taskId === '' && correlationId === '' && agentType === '';
  return empty ? NO_TASK : { taskId, correlationId, agentType };
}

/** Whether calls of this method carry a task: their request is one `agent.TaskRequest`. */
export function isTaskPath(path: string): boolean {
  return path === PROCESS_TASK_PATH || path === STREAM_PROCESS_PATH;
}

/** Whether a call of this method is known to have one request and one answer. */
export function isUnaryPath(path: string): boolean {
  return path === PROCESS_TASK_PATH;
}

/** `agent.Status`; an open enum, as all of proto3. */
export const TaskStatus = { SUCCESS: 0, PARTIAL: 1, FAILED: 2, TIMEOUT: 3 } as const;
export const TASK_STATUS_NAMES: readonly string[] = Object.keys(TaskStatus);

export interface TaskOutcome {
  readonly status: number;
  readonly tokensUsed: number;
}

/** Reads `status` (3) and `tokens_used` (4) of an `agent.TaskResponse`. */
export function readTaskOutcome(buffer: Buffer, start: number, end: number): TaskOutcome {
  reader.open(buffer, start, end);
  let status = 0;
  let tokensUsed = 0;
  while (reader.next()) {
    if (reader.wireType !== WireType.VARINT) continue;
    if (reader.field === 3) status = reader.varint;
    else if (reader.field === 4) tokensUsed = reader.varint;
  }
  // A negative int32 is encoded in ten bytes and reads as more than 2^31: not a number of tokens.
  return { status, tokensUsed: tokensUsed > 0x7fffffff ? 0 : tokensUsed };
}
