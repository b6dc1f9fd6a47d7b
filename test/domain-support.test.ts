// The support domain: three agents in one process beside one sidecar, with the offline provider.
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { callAgent, type DomainAgent, startDomain, streamAgent } from '../agents/runtime/serve.ts';
import { testProvider } from '../agents/test-support.ts';
import { startDataPlane } from '../scripts/harness/data-plane.ts';
import { freePort } from '../scripts/harness/free-port.ts';
import { startProcess } from '../scripts/harness/process.ts';
import { RawClient } from '../scripts/harness/raw-grpc.ts';
import { statsSnapshot } from '../sidecar/admin/snapshot.ts';
import { bytesField } from '../sidecar/task/protobuf.ts';
import { untilLogged } from './support/until-logged.ts';

const agentTypes = { triage: {}, billing: { max_concurrent_calls: 4 }, refunds: {} };

/** A sidecar before the app at this port; calls of the app to `support-agent` come back to it. */
async function startPlane(t: Test, appPort: number, outboundPort: number) {
  const inboundPort = await freePort();
  return startDataPlane(t, {
    name: 'support-agent',
    inbound: { listen: `127.0.0.1:${inboundPort}`, app: `127.0.0.1:${appPort}`, agent_types: agentTypes },
    outbound: {
      listen: `127.0.0.1:${outboundPort}`,
      clusters: {
        'support-agent': { endpoints: [`127.0.0.1:${inboundPort}`], agent_types: Object.keys(agentTypes) },
      },
    },
  });
}

t.test('triage passes a request on to the colleague that it is for', async (t) => {
  const provider = await testProvider(t);
  const [appPort, outboundPort] = [await freePort(), await freePort()];
  const script = join(import.meta.dirname, '..', 'agents', 'domains', 'support', 'agent.ts');
  const service = await startProcess(t, process.execPath, [script], {
    env: {
      AGENT_LISTEN: `127.0.0.1:${appPort}`,
      AGENT_OUTBOUND: `127.0.0.1:${outboundPort}`,
      OPENAI_BASE_URL: provider.baseUrl,
      OPENAI_API_KEY: 'test-key-0123',
    },
  });
  await untilLogged(t, service, /listening/);
  const { sidecar, inboundPort } = await startPlane(t, appPort, outboundPort);
  const address = `127.0.0.1:${inboundPort}`;
  const wants = { agent_type: 'triage', input: 'I was charged twice and want my money back' };
  const answer = await callAgent(address, wants);
  t.equal(answer.status, 'SUCCESS');
  t.match(answer.output, /a case for a refund/);
  t.match(answer.tool_calls, [{ tool_name: 'refunds', arguments: JSON.stringify({ input: wants.input }) }]);
  let streamed = '';
  for await (const chunk of streamAgent(address, { ...wants, input: 'What is on my invoice?' }))
    streamed += chunk;
  t.match(streamed, /The invoice of the month/);
  const { agents } = sidecar.inbound.tasks;
  t.same([...agents.keys()].sort(), ['billing', 'refunds', 'support-agent', 'triage']);
  t.match(statsSnapshot(sidecar).agent_types, { billing: { max_concurrent_calls: 4, refused: 0 } });
  await t.rejects(callAgent(address, { agent_type: 'sales', input: 'hello' }), {
    code: status.INVALID_ARGUMENT,
    details: /there is no agent "sales" here: set agent_type to one of triage, billing, refunds/,
  });
  await t.rejects(callAgent(address, { input: 'hello' }), {
    code: status.INVALID_ARGUMENT,
    details: /the task names no agent/,
  });
});

t.test('an agent of a domain is out of service alone', async (t) => {
  let problem: string | undefined = 'its ledger is away';
  const desk = (answer: string): DomainAgent => ({
    processTask: async () => ({ output: answer }),
    async *streamProcess() {
      yield answer;
    },
  });
  const domain = await startDomain({
    name: 'support',
    version: '1.0.0',
    agents: { billing: { ...desk('paid'), problem: () => problem }, refunds: desk('refunded') },
  });
  t.teardown(() => domain.stop(0));
  const appPort = Number(domain.address.split(':')[1]);
  const { inboundPort } = await startPlane(t, appPort, await freePort());
  const client = new RawClient(t, inboundPort);
  const healthOf = async (service: string): Promise<number | undefined> => {
    const { response } = await client.unary(bytesField(1, Buffer.from(service)), {
      path: '/grpc.health.v1.Health/Check',
    });
    return response?.[1];
  };
  t.equal(await healthOf('billing'), 2, 'NOT_SERVING');
  t.equal(await healthOf('refunds'), 1, 'SERVING');
  t.equal(await healthOf(''), 1, 'the endpoint serves');
  t.equal(
    (await callAgent(`127.0.0.1:${inboundPort}`, { agent_type: 'refunds', input: 'x' })).output,
    'refunded',
  );
  problem = undefined;
  t.equal(await healthOf('billing'), 1);
});
