/** A translation agent. It asks its model through the sidecar, with a tool that knows the customer's own words. */
import { type Agent, AgentError, serveAgent, type TaskContext, type TaskRequest } from 'outrigger/agent';

const GLOSSARY: Readonly<Record<string, string>> = { outrigger: 'Ausleger', sidecar: 'Beiwagen' };

const translation: Agent = {
  name: 'translation-agent',
  version: '1.0.0',

  async processTask(task, context) {
    const run = context.openai.chat.completions.runTools(request(task, context));
    const output = await run.finalContent();
    const { total_tokens } = await run.totalUsage();
    return { output: output ?? '', tokens_used: total_tokens };
  },

  async *streamProcess(task, context) {
    const run = context.openai.chat.completions.runTools({ ...request(task, context), stream: true });
    // Throws if the model breaks off, so that half an answer is no answer.
    yield* context.answerText(run);
  },
};

function request(task: TaskRequest, context: TaskContext) {
  const language = task.metadata['language'] ?? 'German';
  if (!/^[A-Z][a-z]+$/.test(language)) {
    throw new AgentError('INVALID_ARGUMENT', 'language must be a name such as German', { field: 'metadata' });
  }
  return {
    ...context.modelOptions,
    messages: [
      { role: 'system' as const, content: `You translate into ${language}. Look technical words up first.` },
      { role: 'user' as const, content: task.input },
    ],
    tools: [glossary],
  };
}

const glossary = {
  type: 'function' as const,
  function: {
    name: 'glossary',
    description: 'How the customer translates a word',
    parameters: { type: 'object', properties: { word: { type: 'string' } }, required: ['word'] },
    parse: (json: string) => JSON.parse(json) as { word: string },
    function: ({ word }: { word: string }) => GLOSSARY[word.toLowerCase()] ?? 'no entry',
  },
};

await serveAgent(translation);
