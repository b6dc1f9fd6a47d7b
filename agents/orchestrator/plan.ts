/** The work on one task: asks the model for a plan, runs its steps in parallel, and asks again, until the model answers. */
import type OpenAI from 'openai';
import type { TaskContext, TaskRequest } from 'outrigger/agent';
import { v7 as uuidv7 } from 'uuid';
import type { ToolCall } from '../protocol/messages.ts';
import { gathering, readAnswer, type WantedCall } from '../runtime/read-answer.ts';
import { type Functions, functionsFor, NO_FUNCTIONS } from './functions.ts';
import type { OrchestratorSettings } from './settings.ts';
import { DEPTH_KEY, refusedStep, runStep, type Step, type StepEnd, type StepsOfTask } from './steps.ts';

/**
 * An answer comes about in this way:
 *
 *     model ──calls──▶ begun, begun, …  ──▶ ended, ended, … ──▶ model ──text──▶ done
 *       ▲                                                         │
 *       └──────────────────────────calls──────────────────────────┘
 */
export type Happening =
  | { readonly kind: 'begun'; readonly step: Step }
  | { readonly kind: 'ended'; readonly end: StepEnd }
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'done'; readonly done: Done };

export interface Done {
  readonly text: string;
  /** Whether the model came to its own end. */
  readonly whole: boolean;
  readonly tokens: number;
  /** In the order of the plan. */
  readonly calls: readonly ToolCall[];
  /** The steps without a result, also not by a later step that asked the same. */
  readonly failed: readonly StepEnd[];
}

/** The part of the caller's time that steps may use: the model needs the rest for the answer. */
const stepsPart = 0.85;

const instructions = `You are an orchestrator. Split the task into parts, and call functions for them: all calls of one answer run at
the same time, and see nothing of each other. Call again with what you learned. When you know enough, answer the task yourself, from
the results, without calling. If a part failed, say so and go on without it.`;

/**
 * Works on a task. What it does depends on nothing but the task and the model's answers, in the order of the plan: a second run to
 * which the journal gives the same answers makes the same calls with the same ids.
 *
 * @param stream whether to ask the model for streams, so that `text` comes in pieces
 * @throws what the model client throws, and the task's own end
 */
export async function* workOn(
  task: TaskRequest,
  context: TaskContext,
  { agents, limits }: OrchestratorSettings,
  stream: boolean,
): AsyncGenerator<Happening> {
  const depth = depthOf(task);
  // At the greatest depth there is nobody left to ask.
  const functions = depth < limits.depth ? await functionsFor(agents, context) : NO_FUNCTIONS;
  const nowMs = Date.now();
  const shared: StepsOfTask = {
    task,
    context,
    limits,
    depth,
    endMs: nowMs + Math.min(limits.wallMs, context.timeLeftMs() * stepsPart),
    stepTokens: stepTokensOf(context, limits.stepPercent),
  };
  const messages: OpenAI.ChatCompletionMessageParam[] = [
    { role: 'system', content: instructions },
    { role: 'user', content: task.input },
  ];
  const parent = task.task_id === '' ? uuidv7() : task.task_id;
  const ends: StepEnd[] = [];
  let [tokens, placed] = [0, 0];
  for (;;) {
    const mayCall = functions.offered.length > 0 && placed < limits.steps && Date.now() < shared.endMs;
    const answer: ModelAnswer = { content: '', wanted: [], whole: false, tokens: 0 };
    for await (const text of ask(context, messages, mayCall ? functions : NO_FUNCTIONS, stream, answer))
      yield { kind: 'text', text };
    tokens += answer.tokens;
    if (!mayCall || answer.wanted.length === 0) {
      const calls = ends.map(({ call }) => call);
      const failed = stillFailed(ends);
      yield { kind: 'done', done: { text: answer.content, whole: answer.whole, tokens, calls, failed } };
      return;
    }
    const steps = answer.wanted.map(({ function: asked }): Step => {
      const place = ++placed;
      const target = functions.targets.get(asked.name);
      return { id: `${parent}/${place}`, place, name: asked.name, arguments: asked.arguments, target };
    });
    const results: StepEnd[] = [];
    yield* runAll(steps, shared, results);
    results.sort((one, other) => one.step.place - other.step.place);
    ends.push(...results);
    tokens += results.reduce((sum, end) => sum + end.tokens, 0);
    messages.push({ role: 'assistant', content: answer.content || null, tool_calls: answer.wanted });
    for (const [at, { call }] of results.entries())
      messages.push({ role: 'tool', tool_call_id: answer.wanted[at]!.id, content: call.result });
  }
}

/** Runs the steps, so many at a time, and tells of each as it begins and ends. */
async function* runAll(
  steps: readonly Step[],
  shared: StepsOfTask,
  results: StepEnd[],
): AsyncGenerator<Happening> {
  const { limits } = shared;
  const waiting = [...steps];
  const running = new Map<Step, Promise<StepEnd>>();
  try {
    while (waiting.length > 0 || running.size > 0) {
      while (waiting.length > 0 && running.size < limits.parallel) {
        const step = waiting.shift()!;
        const run =
          step.place > limits.steps
            ? Promise.resolve(refusedStep(step, `a task may have ${limits.steps} steps`))
            : runStep(step, shared);
        running.set(step, run);
        yield { kind: 'begun', step };
      }
      const end = await Promise.race(running.values());
      running.delete(end.step);
      results.push(end);
      yield { kind: 'ended', end };
    }
  } finally {
    // After the task's own end nobody waits for the others, which end with it.
    for (const run of running.values()) run.catch(() => {});
  }
}

interface ModelAnswer {
  content: string;
  wanted: WantedCall[];
  whole: boolean;
  tokens: number;
}

/** One request to the model. Yields its text in pieces. */
async function* ask(
  { openai, modelOptions, answerText }: TaskContext,
  messages: OpenAI.ChatCompletionMessageParam[],
  { offered }: Functions,
  stream: boolean,
  into: ModelAnswer,
): AsyncGenerator<string> {
  const tools = offered.length === 0 ? {} : { tools: [...offered] };
  const request = { ...modelOptions, messages, ...tools };
  if (!stream) {
    Object.assign(into, readAnswer(await openai.chat.completions.create(request)));
    if (into.content !== '') yield into.content;
    return;
  }
  const chunks = await openai.chat.completions.create({ ...request, stream: true });
  for await (const text of answerText(gathering(chunks, into.wanted))) {
    into.content += text;
    yield text;
  }
  into.whole = true;
}

/** A step that failed counts no longer when a later one asked the same and got it. */
function stillFailed(ends: readonly StepEnd[]): StepEnd[] {
  return ends.filter(
    ({ step, failed }) =>
      failed !== '' &&
      !ends.some(
        (later) =>
          later.step.place > step.place &&
          later.failed === '' &&
          later.step.name === step.name &&
          later.step.arguments === step.arguments,
      ),
  );
}

/** The depth that the task itself tells; 0 where no orchestrator has sent it. */
function depthOf(task: TaskRequest): number {
  const text = task.metadata[DEPTH_KEY] ?? '';
  return /^\d{1,3}$/.test(text) ? Number(text) : 0;
}

/** Returns the part of the task's token budget that one step may use; undefined where the caller sets none. */
function stepTokensOf({ metadata }: TaskContext, percent: number): number | undefined {
  const budgets = metadata
    .get('outrigger-token-budget')
    .map(Number)
    .filter((tokens) => Number.isSafeInteger(tokens) && tokens >= 0);
  return budgets.length === 0 ? undefined : Math.floor((Math.min(...budgets) * percent) / 100);
}
