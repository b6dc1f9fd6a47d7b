/** Runs the steps of a plan: the calls of agents and tools that the model asks for. */
import { status } from '@grpc/grpc-js';
import type { TaskContext, TaskRequest } from 'outrigger/agent';
import type { ToolCall } from '../protocol/messages.ts';
import type { Target } from './functions.ts';
import { patiently } from './patience.ts';
import type { Limits } from './settings.ts';

/** One call of a plan. */
export interface Step {
  /** From the place of the call in the plan, so that a run with the same plan has the same ids: `TASK/3`. */
  readonly id: string;
  /** From 1. */
  readonly place: number;
  readonly name: string;
  /** JSON, as the model wrote it. */
  readonly arguments: string;
  readonly target: Target | undefined;
}

/** The end of a step. */
export interface StepEnd {
  readonly step: Step;
  /** The model and the caller read this text. */
  readonly call: ToolCall;
  /** Why the step has no result, or not all of it; '' otherwise. */
  readonly failed: string;
  readonly tokens: number;
}

/** The keys of a subtask's metadata that tell how deep it is. */
export const DEPTH_KEY = 'orchestrator_depth';

/** Holds the things that all steps of a task share. */
export interface StepsOfTask {
  readonly task: TaskRequest;
  readonly context: TaskContext;
  readonly limits: Limits;
  readonly depth: number;
  /** Milliseconds since the epoch at which no step may run any more. */
  readonly endMs: number;
  readonly stepTokens: number | undefined;
}

/** Runs a step to its end, good or bad. @throws only the task's own end */
export async function runStep(step: Step, shared: StepsOfTask): Promise<StepEnd> {
  const startedMs = performance.now();
  const { signal } = shared.context;
  let end: { result: string; failed?: string; tokens?: number };
  try {
    end = await perform(step, shared);
  } catch (thrown) {
    signal.throwIfAborted();
    const failed = whyOf(thrown);
    end = { result: `The step failed: ${failed}`, failed };
  }
  const { result, failed = '', tokens = 0 } = end;
  const latency_ms = Math.round(performance.now() - startedMs);
  const text = toModel(result, shared.limits.resultChars);
  return {
    step,
    call: { tool_name: step.name, arguments: step.arguments, result: text, latency_ms },
    failed,
    tokens,
  };
}

type Performed = { result: string; failed?: string; tokens?: number };

async function perform(step: Step, shared: StepsOfTask): Promise<Performed> {
  const { target } = step;
  if (target === undefined) return { result: `There is no function ${step.name}.` };
  const deadlineMs = Math.min(shared.endMs, Date.now() + shared.limits.stepMs);
  if (deadlineMs <= Date.now()) return notRun('its time is over');
  if (target.kind === 'tool') return runTool(step, shared, deadlineMs);
  const input = inputOf(step.arguments);
  if (input === undefined) return { result: 'The arguments must be {"input": "…"} with a text.' };
  const { context, task, depth, stepTokens } = shared;
  const { authority, agentType } = target.agent;
  const subtask = {
    task_id: step.id,
    agent_type: agentType,
    input,
    metadata: {
      [DEPTH_KEY]: String(depth + 1),
      root_task_id: task.metadata['root_task_id'] ?? task.task_id,
    },
  };
  const within = { deadlineMs, ...(stepTokens === undefined ? {} : { tokenBudget: stepTokens }) };
  const ask = () => context.agents.process(authority, subtask, within);
  const answer = await patiently(ask, deadlineMs, context.signal);
  const { output, status: ended, tokens_used: tokens } = answer;
  if (ended === 'SUCCESS') return { result: output, tokens };
  const failed = ended === 'PARTIAL' ? 'it did a part' : `it answered ${ended}`;
  return { result: `${failed}: ${output}`, failed, tokens };
}

async function runTool(step: Step, { context }: StepsOfTask, deadlineMs: number): Promise<Performed> {
  const { result, failed } = await context.tools!.run(step.name, step.arguments, step.id, { deadlineMs });
  return failed === undefined ? { result } : { result, failed };
}

/** A step that a limit keeps from running. */
export function refusedStep(step: Step, why: string): StepEnd {
  const { result, failed = '' } = notRun(why);
  return {
    step,
    call: { tool_name: step.name, arguments: step.arguments, result, latency_ms: 0 },
    failed,
    tokens: 0,
  };
}

function notRun(why: string): Performed {
  return { result: `The step did not run to its end: ${why}.`, failed: why };
}

function inputOf(json: string): string | undefined {
  try {
    const { input } = JSON.parse(json) as { input?: unknown };
    return typeof input === 'string' && input.trim() !== '' ? input : undefined;
  } catch {
    return undefined;
  }
}

function whyOf(thrown: unknown): string {
  const { code, details, message } = thrown as { code?: number; details?: string; message?: string };
  if (typeof code === 'number') return `${status[code] ?? code}: ${details ?? ''}`;
  return message ?? String(thrown);
}

/** Returns the part of a result that the model reads. */
function toModel(text: string, mostChars: number): string {
  if (text.length <= mostChars) return text;
  const left = text.length - mostChars;
  return `${text.slice(0, mostChars).toWellFormed()}\n[${left} more characters were left out]`;
}
