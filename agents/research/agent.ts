/** The research agent: answers a question with findings, evidence and open points. */
import { answerWithTools, serveAgent, streamWithTools, type TaskRequest } from 'outrigger/agent';

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

  processTask: (task, context) => answerWithTools(context, { messages: conversation(task) }),
  streamProcess: (task, context) => streamWithTools(context, { messages: conversation(task) }),
});
