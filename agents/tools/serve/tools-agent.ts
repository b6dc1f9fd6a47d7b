/** The tool runner as an agent: a task of agent type `tools` is one call of a tool. */
import { z } from 'zod';
import type { Agent, TaskRequest } from '../../runtime/agent.ts';
import { AgentError } from '../../runtime/errors.ts';
import type { TaskContext } from '../../runtime/task-context.ts';
import type { Runner } from '../run/runner.ts';
import { type ToolRequest, textOf } from '../run/tool-run.ts';
import { callerOf } from './caller.ts';
import { traced } from './traced.ts';

const taskInput = z.strictObject({
  tool: z.string().min(1).max(64),
  arguments: z.record(z.string(), z.unknown()).default({}),
});

export function toolsAgent(runner: Runner): Agent {
  const carryOut = (task: TaskRequest, context: TaskContext) => {
    const request = requestOf(task, context);
    const headerOf = (name: string) => context.metadata.get(name)[0];
    return traced(request, headerOf, () => runner.run(request, context.signal));
  };
  return {
    name: 'tools-agent',
    version: '1.0.0',
    async processTask(task, context) {
      const outcome = await carryOut(task, context);
      const output = textOf(outcome);
      const call = {
        tool_name: outcome.tool,
        arguments: outcome.arguments,
        result: output,
        latency_ms: outcome.latencyMs,
      };
      return { output, status: outcome.failed ? 'PARTIAL' : 'SUCCESS', tool_calls: [call] };
    },
    async *streamProcess(task, context) {
      yield textOf(await carryOut(task, context));
    },
  };
}

/** @throws AgentError INVALID_ARGUMENT */
function requestOf(task: TaskRequest, context: TaskContext): ToolRequest {
  let value: unknown;
  try {
    value = JSON.parse(task.input);
  } catch {
    value = undefined;
  }
  const parsed = taskInput.safeParse(value);
  if (!parsed.success) {
    const form = '{"tool": "python", "arguments": {"code": "print(1)"}}';
    throw new AgentError('INVALID_ARGUMENT', `input must be JSON like ${form}`, { field: 'input' });
  }
  return {
    tool: parsed.data.tool,
    arguments: JSON.stringify(parsed.data.arguments),
    caller: callerOf(context.metadata),
    // The task's id names this call; the workspace is that of the task for which an agent made it.
    callId: task.task_id,
    taskId: task.metadata['parent_task_id'] || task.correlation_id || task.task_id,
  };
}
