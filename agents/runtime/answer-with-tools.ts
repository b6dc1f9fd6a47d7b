/** Asks the model, runs the tools that it asks for, and asks again, until it answers. */
import type OpenAI from 'openai';
import type { ToolCall } from '../protocol/messages.ts';
import type { TaskResult } from './agent.ts';
import { gathering, readAnswer, type WantedCall } from './read-answer.ts';
import type { TaskContext } from './task-context.ts';

type Message = OpenAI.ChatCompletionMessageParam;

/** What an agent says to its model. The rest of the request comes from the task. */
export interface Conversation {
  messages: Message[];
  temperature?: number;
}

/** A model that still asks for tools after so many rounds gets none any more, and has to answer. */
const mostRounds = 8;

/** The whole answer. `tool_calls` has what was run for it. Without a tool runner, this is one request to the model. */
export async function answerWithTools(context: TaskContext, conversation: Conversation): Promise<TaskResult> {
  const work = await Work.begin(context, conversation);
  for (;;) {
    const answer = readAnswer(await context.openai.chat.completions.create(work.request()));
    const { content, wanted, whole } = answer;
    work.tokens += answer.tokens;
    if (wanted.length > 0 && work.mayRun) await work.run(wanted, content || null);
    else {
      return {
        output: content,
        status: whole ? 'SUCCESS' : 'PARTIAL',
        tokens_used: work.tokens,
        tool_calls: work.done,
      };
    }
  }
}

/** The same as a stream of the answer's text. */
export async function* streamWithTools(
  context: TaskContext,
  conversation: Conversation,
): AsyncGenerator<string> {
  const work = await Work.begin(context, conversation);
  for (;;) {
    const chunks = await context.openai.chat.completions.create({ ...work.request(), stream: true });
    const wanted: WantedCall[] = [];
    yield* context.answerText(gathering(chunks, wanted));
    if (wanted.length === 0 || !work.mayRun) return;
    await work.run(wanted, null);
  }
}

/** One answer in the making. */
class Work {
  tokens = 0;
  readonly done: ToolCall[] = [];
  private rounds = 0;
  private readonly context: TaskContext;
  private readonly messages: Message[];
  private readonly temperature: { temperature?: number };
  private readonly tools: OpenAI.ChatCompletionTool[];

  private constructor(context: TaskContext, conversation: Conversation, tools: OpenAI.ChatCompletionTool[]) {
    const { messages, temperature } = conversation;
    this.context = context;
    this.messages = [...messages];
    this.temperature = temperature === undefined ? {} : { temperature };
    this.tools = tools;
  }

  static async begin(context: TaskContext, conversation: Conversation): Promise<Work> {
    return new Work(context, conversation, (await context.tools?.list()) ?? []);
  }

  get mayRun(): boolean {
    return this.tools.length > 0 && this.rounds < mostRounds;
  }

  request() {
    const { messages, temperature, context } = this;
    // The task's own temperature goes before the agent's.
    const request = { ...temperature, ...context.modelOptions, messages };
    return this.mayRun ? { ...request, tools: this.tools } : request;
  }

  async run(wanted: WantedCall[], content: string | null): Promise<void> {
    this.rounds++;
    this.messages.push({ role: 'assistant', content, tool_calls: wanted });
    // In order, because one may need what the one before has written.
    for (const { id, function: asked } of wanted) {
      const call = await this.context.tools!.run(asked.name, asked.arguments, id);
      this.done.push(call);
      this.messages.push({ role: 'tool', tool_call_id: id, content: call.result });
    }
  }
}
