/** An agent that answers requests at its desk: one conversation with the model, with the tools that there are. */
import { answerWithTools, type DomainAgent, streamWithTools, type TaskRequest } from 'outrigger/agent';

/** @param instructions what the agent is, and how it answers */
export function deskAgent(instructions: string): DomainAgent {
  const conversation = (task: TaskRequest) => ({
    messages: [
      { role: 'system' as const, content: instructions },
      { role: 'user' as const, content: task.input },
    ],
  });
  return {
    processTask: (task, context) => answerWithTools(context, conversation(task)),
    streamProcess: (task, context) => streamWithTools(context, conversation(task)),
  };
}
