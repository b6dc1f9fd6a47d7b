// The orchestrator calls tools of MCP servers through its sidecar: at once, each once, within its limits, and it says what is not known.
import { Metadata, type ServiceError, status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { orchestrator } from '../agents/orchestrator/orchestrator.ts';
import { readOrchestratorSettings } from '../agents/orchestrator/settings.ts';
import { connectAgent } from '../agents/protocol/agent-client.ts';
import type { TaskResponse } from '../agents/protocol/messages.ts';
import { testAgent } from '../agents/test-support.ts';
import { startDataPlane } from '../scripts/harness/data-plane.ts';
import { freePort } from '../scripts/harness/free-port.ts';
import { startLlmProvider } from '../scripts/harness/llm/provider.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { startCutter } from './support/cutter.ts';
import { startCounting } from './support/mcp-server.ts';

t.setTimeout(120_000);
t.jobs = 3;

type Call = readonly [name: string, args: object];
interface Question {
  readonly messages: readonly { readonly role: string; readonly content: string }[];
  readonly tools?: readonly { readonly function: { readonly name: string } }[];
}

/** An orchestrator beside a sidecar with two MCP servers: one of today, and one with sessions, behind a wire that can be cut. */
async function startScene(t: Test, environment: Readonly<Record<string, string>> = {}) {
  const provider = await startLlmProvider();
  t.teardown(() => provider.close());
  // The model calls what the task says, and then answers.
  const questions: Question[] = [];
  const url = provider.script('plans', ({ json }, response) => {
    const question = json as unknown as Question;
    questions.push(question);
    const [, task, ...rest] = question.messages;
    const calls = rest.length > 0 ? [] : (JSON.parse(task!.content) as Call[]);
    const message =
      calls.length === 0
        ? { role: 'assistant', content: 'All is done.' }
        : {
            role: 'assistant',
            content: null,
            tool_calls: calls.map(([name, args], at) => ({
              id: `call_${at}`,
              type: 'function',
              function: { name, arguments: JSON.stringify(args) },
            })),
          };
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ choices: [{ index: 0, message, finish_reason: 'stop' }] }));
  });
  const [today, sessions] = [
    await startCounting(t),
    await startCounting(t, { kind: 'sessions', answers: 'sse' }),
  ];
  const wire = await startCutter(t, today.port);
  const listen = async () => `127.0.0.1:${await freePort()}`;
  const at = { app: await listen(), mcp: await listen(), llm: await listen(), outbound: await listen() };
  // First, so that the sidecar finds it at once.
  await testAgent(t, orchestrator(readOrchestratorSettings({ ORCHESTRATOR_AGENTS: '{}', ...environment })), {
    listen: at.app,
    outbound: at.outbound,
    mcp: { servers: ['today', 'old', 'away'], url: `http://${at.mcp}/mcp` },
    baseUrl: `http://${at.llm}/v1`,
  });
  const plane = await startDataPlane(t, {
    inbound: { app: at.app },
    outbound: { listen: at.outbound },
    llm: { listen: at.llm, upstreams: [{ name: 'one', url }] },
    mcp: {
      listen: at.mcp,
      servers: {
        today: {
          url: `http://${wire.address}/mcp`,
          tools: ['write', 'fail', 'slow'],
          headers: { connection: 'close' },
        },
        old: { url: sessions.url, tools: ['write', 'read'] },
      },
    },
  });
  const client = connectAgent(`127.0.0.1:${plane.inboundPort}`);
  t.teardown(() => client.close());
  const begin = (id: string, calls: readonly Call[]) => {
    let cancel = () => {};
    const ended = new Promise<TaskResponse>((resolve, reject) => {
      const task = { task_id: id, input: JSON.stringify(calls) };
      const call = client.ProcessTask(task, new Metadata(), {}, (error, answer) =>
        error ? reject(error) : resolve(answer!),
      );
      cancel = () => call.cancel();
    });
    return { ended, cancel };
  };
  return { today, sessions, wire, questions, plane, begin };
}

t.test(
  'tools of all servers are functions, and each call is made once, with the id of its step',
  async (t) => {
    const { today, sessions, questions, begin } = await startScene(t);
    const { ended } = begin('T', [
      ['write', { n: 1 }],
      ['old_write', { n: 1 }],
      ['fail', {}],
      ['read', {}],
      ['nothing', {}],
    ]);
    const answer = await ended;
    t.same(
      questions[0]!.tools?.map((tool) => tool.function.name),
      ['fail', 'old_write', 'read', 'slow', 'write'],
      'what the sidecar shows, in one order',
    );
    t.same(
      answer.tool_calls.map(({ tool_name, result }) => [tool_name, result]),
      [
        ['write', 'write 1'],
        ['old_write', 'write 1'],
        ['fail', 'it failed'],
        ['read', 'read 1'],
        ['nothing', 'There is no function nothing.'],
      ],
    );
    t.match(
      answer,
      { status: 'SUCCESS', output: 'All is done.' },
      'an error of a tool is a result of its own',
    );
    t.equal(today.effects.of('write', { n: 1 }), 1);
    t.equal(sessions.effects.of('write', { n: 1 }), 1);
    const keys = today.heads
      .map(({ headers }) => headers['idempotency-key'])
      .filter((key) => key !== undefined);
    t.same(keys.sort(), ['T/1', 'T/3']);
    await waitUntil('the session has ended', () => sessions.sessions === 0);
  },
);

t.test('a call whose outcome is unknown is not made again, and is named', async (t) => {
  const { today, wire, begin } = await startScene(t);
  await begin('before', [['write', { n: 0 }]]).ended;
  t.equal(today.effects.of('write', { n: 0 }), 1);
  const { ended } = begin('cut', [['slow', {}]]);
  await waitUntil('the tool runs', () => today.effects.slow === 1);
  wire.drop();
  const answer = await ended;
  t.match(answer.tool_calls[0]!.result, /The outcome of this call is unknown/);
  t.equal(answer.status, 'PARTIAL');
  t.match(answer.output, /Not everything was done:\n- step 1, slow: outcome unknown: /);
  t.equal(today.effects.of('slow', {}), 1, 'the effect happened once');
});

t.test('a cancel ends the calls of tools, and a step has its time', async (t) => {
  const { today, plane, begin } = await startScene(t, { ORCHESTRATOR_STEP_TIME: '3s' });
  const answer = await begin('slow', [['slow', {}]]).ended;
  t.match(answer, { status: 'PARTIAL', tool_calls: [{ result: /its time is over|not called/ }] });
  await waitUntil('the server has heard of it', () => today.effects.cancelled >= today.effects.slow);

  const patient = await startScene(t);
  const second = patient.begin('cancelled', [['slow', {}]]);
  const failure = second.ended.then(
    () => undefined,
    (error: ServiceError) => error.code,
  );
  await waitUntil('the tool runs', () => patient.today.effects.slow === 1);
  second.cancel();
  t.equal(await failure, status.CANCELLED);
  await waitUntil('the server has heard of the cancel', () => patient.today.effects.cancelled > 0);
  await waitUntil(
    'nothing is left',
    () => plane.sidecar.mcp.activeRequests + patient.plane.sidecar.mcp.activeRequests === 0,
  );
});
