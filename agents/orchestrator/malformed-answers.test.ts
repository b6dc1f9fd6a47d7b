// Answers of a model that no agent can use: they are failures of the provider, and the agent goes on with other tasks.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { triage } from '../domains/support/triage.ts';
import type { Agent } from '../runtime/agent.ts';
import { answerWithTools, streamWithTools } from '../runtime/answer-with-tools.ts';
import { failureOf, processTask, streamProcess, testAgent } from '../test-support.ts';
import { orchestrator } from './orchestrator.ts';
import { readOrchestratorSettings } from './settings.ts';

/** A provider that answers a request with the JSON in its last message: a body, or the only chunk of a stream. */
async function startEcho(t: Test): Promise<string> {
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const part of request) body += part;
    const { messages, stream } = JSON.parse(body) as { messages: { content: string }[]; stream?: boolean };
    const json = messages.at(-1)!.content;
    response.setHeader('content-type', stream ? 'text/event-stream' : 'application/json');
    response.end(stream ? `data: ${json}\n\ndata: [DONE]\n\n` : json);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`;
}

const called = { name: 'ask_research', arguments: '{}' };
const whole = (message: object, more: object = {}) =>
  JSON.stringify({ choices: [{ index: 0, message, finish_reason: 'stop' }], ...more });
const chunk = (delta: object) => JSON.stringify({ choices: [{ index: 0, delta, finish_reason: 'stop' }] });
const piece = (fields: object) => chunk({ tool_calls: [{ id: 'a', function: called, ...fields }] });

const withTools: Partial<Agent> = {
  processTask: ({ input }, context) =>
    answerWithTools(context, { messages: [{ role: 'user', content: input }] }),
  streamProcess: ({ input }, context) =>
    streamWithTools(context, { messages: [{ role: 'user', content: input }] }),
};

t.test('a malformed answer of a model is a failure of the provider, and no endless work', async (t) => {
  const baseUrl = await startEcho(t);
  const agents = [withTools, orchestrator(readOrchestratorSettings({}))];
  const { client: decider } = await testAgent(t, triage, { baseUrl });
  for (const agent of agents) {
    const { client } = await testAgent(t, agent, { baseUrl });
    const streams = [
      ...[-1, 0.5, 128, 1e300, 50_000_000, 4_294_967_294, '0', {}].map((index) => piece({ index })),
      piece({ index: 0, function: 7 }),
      piece({ index: 0, id: 7 }),
      chunk({ tool_calls: [null] }),
      chunk({ tool_calls: { length: 4_294_967_295 } }),
      chunk({ content: 7 }),
      '{"choices":7}',
      'null',
    ];
    for (const input of streams) {
      const failure = await failureOf(streamProcess(client, { input }));
      t.match(failure, { code: status.UNAVAILABLE, details: /malformed answer: / }, input);
    }
    const call = { id: 'a', type: 'function' };
    const answers = [
      whole({ tool_calls: [call, null] }),
      whole({ tool_calls: [call] }),
      whole({ tool_calls: [{ ...call, function: { name: 7 } }] }),
      whole({ tool_calls: { length: 1 } }),
      whole({ tool_calls: Array(129).fill({ ...call, function: called }) }),
      whole({ content: 7 }),
      '{"choices":7}',
      '{}',
      'null',
      '"text"',
    ];
    for (const input of answers) {
      const failure = await failureOf(processTask(client, { input }));
      t.match(failure, { code: status.UNAVAILABLE, details: /malformed answer: / }, input.slice(0, 80));
      const undecided = await failureOf(processTask(decider, { input }));
      t.match(
        undecided,
        { code: status.UNAVAILABLE, details: /malformed answer: / },
        `triage: ${input.slice(0, 80)}`,
      );
    }
    for (const total of [-1, 0.5, 1e300, '12', null]) {
      const input = whole({ content: 'good' }, { usage: { total_tokens: total } });
      t.match(await processTask(client, { input }), { output: 'good', status: 'SUCCESS', tokens_used: 0 });
    }
    const input = `${chunk({ content: 'good' })}\n\ndata: {"usage":{}}`;
    const chunks = await streamProcess(client, { input });
    t.equal(chunks.map((part) => part.chunk).join(''), 'good');
  }
});
