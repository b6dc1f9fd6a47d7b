/** The code agent: writes a program for a task, in one piece or streamed. */
import { serveAgent, type TaskRequest } from 'outrigger/agent';

const instructions = `You are a code agent. Answer with working code in one fenced block, in the language of
the request, TypeScript if it names none. Handle bad input. After the block say in two sentences at most how
to run and how to test it.`;

/** A low temperature gives the same code each time; a task can override it. */
const usualTemperature = 0.1;

function conversation(task: TaskRequest) {
  return [
    { role: 'system' as const, content: instructions },
    { role: 'user' as const, content: task.input },
  ];
}

await serveAgent({
  name: 'code-agent',
  version: '1.0.0',

  async processTask(task, context) {
    const { choices, usage } = await context.openai.chat.completions.create({
      temperature: usualTemperature,
      ...context.modelOptions,
      messages: conversation(task),
    });
    const choice = choices[0];
    return {
      output: choice?.message.content ?? '',
      status: choice?.finish_reason === 'stop' ? 'SUCCESS' : 'PARTIAL',
      tokens_used: usage?.total_tokens ?? 0,
    };
  },

  async *streamProcess(task, context) {
    const chunks = await context.openai.chat.completions.create({
      temperature: usualTemperature,
      ...context.modelOptions,
      messages: conversation(task),
      stream: true,
    });
    yield* context.answerText(chunks);
  },
});
