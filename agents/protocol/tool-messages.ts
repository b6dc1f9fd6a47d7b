/** The TypeScript types of the messages of proto/outrigger_tools.proto. */
import type { ToolCall } from './messages.ts';

/** A call of `outrigger.tools.v1.ToolRunner`. */
export interface ToolCallRequest {
  tool_name: string;
  /** JSON. */
  arguments: string;
  call_id: string;
  task_id: string;
}

export interface ToolResult {
  call: ToolCall | null;
  call_id: string;
  failed: boolean;
  exit_code: number;
  stdout: Buffer;
  stderr: Buffer;
  replayed: boolean;
  usage: { wall_ms: number; cpu_ms: number; memory: number; processes: number } | null;
}

export interface ToolEvent {
  stdout?: Buffer;
  stderr?: Buffer;
  result?: ToolResult;
}

export interface ToolDescription {
  name: string;
  description: string;
  /** JSON Schema, as JSON. */
  input_schema: string;
  idempotent: boolean;
  read_only: boolean;
  network: boolean;
}

export interface ToolList {
  tools: ToolDescription[];
  sandbox: { tier: string; minimum: string; problems: string[] } | null;
}
