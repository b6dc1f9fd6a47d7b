// Sends one task to a sidecar and prints the answer: `task.ts HOST:PORT`.
import { Metadata } from '@grpc/grpc-js';
import { connectAgent } from '../../agents/protocol/agent-client.ts';

const [address = '127.0.0.1:15006'] = process.argv.slice(2);
const client = connectAgent(address);
const task = {
  task_id: `image-${process.pid}`,
  agent_type: 'research',
  input: 'Why do circuit breakers matter?',
};
client.ProcessTask(task, new Metadata(), { deadline: Date.now() + 30_000 }, (error, answer) => {
  client.close();
  if (error !== null) {
    console.error(error.message);
    process.exitCode = 1;
    return;
  }
  console.log(
    `${answer!.status}, ${answer!.tokens_used} tokens: ${answer!.output.slice(0, 80).replaceAll('\n', ' ')} …`,
  );
});
