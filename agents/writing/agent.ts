/** The writing agent: writes a text for a task. */
import { answerWithTools, serveAgent, streamWithTools, type TaskRequest } from 'outrigger/agent';

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

  processTask: (task, context) =>
    answerWithTools(context, { messages: conversation(task), temperature: usualTemperature }),
  streamProcess: (task, context) =>
    streamWithTools(context, { messages: conversation(task), temperature: usualTemperature }),
});
