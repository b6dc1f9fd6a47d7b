/** The orchestrator as an agent: what it answers, whole or as a stream of its steps. */
import type { Agent, TaskContext, TaskRequest, TaskResult } from 'outrigger/agent';
import { type Done, workOn } from './plan.ts';
import { begunLine, endedLine, namedFailures } from './result-text.ts';
import type { OrchestratorSettings } from './settings.ts';

/** It keeps nothing between tasks: what outlives a run is the bus's and the journal's, by the ids of task and steps. */
export function orchestrator(settings: OrchestratorSettings): Agent {
  return {
    name: 'orchestrator-agent',
    version: '1.0.0',

    async processTask(task: TaskRequest, context: TaskContext): Promise<TaskResult> {
      let done: Done | undefined;
      for await (const happening of workOn(task, context, settings, false))
        if (happening.kind === 'done') done = happening.done;
      const { text, whole, failed, tokens, calls } = done!;
      return {
        output: text + namedFailures(failed),
        status: whole && failed.length === 0 ? 'SUCCESS' : 'PARTIAL',
        tokens_used: tokens,
        tool_calls: [...calls],
      };
    },

    async *streamProcess(task: TaskRequest, context: TaskContext): AsyncGenerator<string> {
      for await (const happening of workOn(task, context, settings, true)) {
        if (happening.kind === 'begun') yield begunLine(happening.step);
        else if (happening.kind === 'ended') yield endedLine(happening.end);
        else if (happening.kind === 'text') yield happening.text;
        else yield namedFailures(happening.done.failed);
      }
    },
  };
}
