import type { TaskRequest, TaskResponse, TaskStatus, ToolCall } from '../protocol/messages.ts';
import type { TaskContext } from './task-context.ts';

/** What a task came to. The runtime adds the task's id and the time it took. */
export interface TaskResult {
  output: string;
  /** SUCCESS if left out. */
  status?: TaskStatus;
  tokens_used?: number;
  tool_calls?: ToolCall[];
}

/** An agent: who it is and how it does a task. Everything else is the runtime's or the sidecar's. */
export interface Agent {
  name: string;
  version: string;
  /** Does the task and gives the whole answer. May throw; see errors.ts for what the caller is told. */
  processTask(task: TaskRequest, context: TaskContext): Promise<TaskResult>;
  /** Does the task and yields the answer piece by piece. It is read only as fast as the caller reads. */
  streamProcess(task: TaskRequest, context: TaskContext): AsyncIterable<string>;
}

export type { TaskRequest, TaskResponse };
