/** The research agent: answers a question with findings, evidence and open points. */
import { serveAgent, type TaskRequest } from 'outrigger/agent';

const instructions = `You are a research agent. Answer the question from what is known, in this order:
a one-sentence finding, the evidence for it as a list, what speaks against it, and what is still open.
Say how certain each point is. Never invent a source.`;

function conversation(task: TaskRequest) {
  return [
    { role: 'system' as const, content: instructions },
    { role: 'user' as const, content: task.input },
  ];
}

await serveAgent({
  name: 'research-agent',
  version: '1.0.0',

  async processTask(task, context) {
    const { choices, usage } = await context.openai.chat.completions.create({
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
      ...context.modelOptions,
      messages: conversation(task),
      stream: true,
    });
    yield* context.answerText(chunks);
  },
});
