/** The code agent: writes a program for a task, in one piece or streamed. */
import { answerWithTools, serveAgent, streamWithTools, type TaskRequest } from 'outrigger/agent';

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

  processTask: (task, context) =>
    answerWithTools(context, { messages: conversation(task), temperature: usualTemperature }),
  streamProcess: (task, context) =>
    streamWithTools(context, { messages: conversation(task), temperature: usualTemperature }),
});
