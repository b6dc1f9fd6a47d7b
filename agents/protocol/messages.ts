/**
 * The TypeScript types of the messages of proto/agent_service.proto: the file's field names, numbers for int64 (all of
 * ours are small), names for enums.
 */

export type TaskStatus = 'SUCCESS' | 'PARTIAL' | 'FAILED' | 'TIMEOUT';

export interface TaskRequest {
  task_id: string;
  correlation_id: string;
  agent_type: string;
  input: string;
  metadata: Record<string, string>;
  /** The limit of the answer's tokens; 0 leaves it to the agent. */
  max_tokens: number;
  /** 0 leaves it to the agent. */
  temperature: number;
}

export interface ToolCall {
  tool_name: string;
  /** JSON. */
  arguments: string;
  result: string;
  latency_ms: number;
}

export interface TaskResponse {
  task_id: string;
  output: string;
  status: TaskStatus;
  tokens_used: number;
  latency_ms: number;
  tool_calls: ToolCall[];
}

export interface TaskChunk {
  chunk: string;
  is_final: boolean;
}

export interface HealthResponse {
  healthy: boolean;
  agent_name: string;
  version: string;
  checks: Record<string, string>;
}

/** The states of grpc.health.v1; only Watch sends SERVICE_UNKNOWN. */
export type ServingStatus = 'UNKNOWN' | 'SERVING' | 'NOT_SERVING' | 'SERVICE_UNKNOWN';
