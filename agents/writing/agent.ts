/** The writing agent: writes a text for a task. */
import { serveAgent, type TaskRequest } from 'outrigger/agent';

const instructions = `You are a writing agent. Turn the request into finished prose: a title, short paragraphs
that each make one point, and a closing sentence. Plain words, active voice, no filler. Keep every fact that
was given and add none.`;

/** Prose gains from some variety; a task can override the temperature. */
const usualTemperature = 0.8;

function conversation(task: TaskRequest) {
  return [
    { role: 'system' as const, content: instructions },
    { role: 'user' as const, content: task.input },
  ];
}

await serveAgent({
  name: 'writing-agent',
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
