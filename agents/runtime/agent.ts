/** The interface of an agent. */
import type { TaskRequest, TaskResponse, TaskStatus, ToolCall } from '../protocol/messages.ts';
import type { TaskContext } from './task-context.ts';

/** The result of a task. The runtime adds the task's id and its duration. */
export interface TaskResult {
  output: string;
  /** SUCCESS if omitted. */
  status?: TaskStatus;
  tokens_used?: number;
  tool_calls?: ToolCall[];
}

/** An agent: its name, and how it processes a task. The runtime and the sidecar do everything else. */
export interface Agent {
  name: string;
  version: string;
  /** Processes the task and returns the whole answer. May throw; errors.ts decides what the caller receives. */
  processTask(task: TaskRequest, context: TaskContext): Promise<TaskResult>;
  /** Processes the task and yields the answer in pieces, only as fast as the caller reads. */
  streamProcess(task: TaskRequest, context: TaskContext): AsyncIterable<string>;
}

/** An agent that serves. */
export interface RunningAgent {
  /** The address that it listens on: `host:port` with the real port, or `unix:/path`. */
  readonly address: string;
  /**
   * Accepts no new tasks and waits for the running ones; after the limit it aborts the rest, whose callers get
   * UNAVAILABLE. Resolves true if every task finished by itself.
   */
  stop(limitMs: number): Promise<boolean>;
}

export type { TaskRequest, TaskResponse };
