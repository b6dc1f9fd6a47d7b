// The gateway's agents: as many as the settings name, and those that its sidecar routes.
import { pino } from 'pino';
import t, { type Test } from 'tap';
import { startDataPlane } from '../../scripts/harness/data-plane.ts';
import { startSidecar } from '../../scripts/harness/sidecar.ts';
import { testAgent } from '../test-support.ts';
import { createGateway, type Gateway } from './app.ts';
import { agentsIn } from './discovery.ts';
import { readGatewaySettings } from './settings.ts';

async function gatewayWith(t: Test, env: Record<string, string>): Promise<Gateway['app']> {
  const { app, stop } = await createGateway(readGatewaySettings(env), pino({ enabled: false }));
  t.teardown(() => stop(0));
  return app;
}

const run = (app: Gateway['app'], payload: object) =>
  app.inject({ method: 'POST', url: '/api/v1/tasks', payload });

t.test('types of the settings, several behind one name, are called by it', async (t) => {
  const seen: string[] = [];
  const support = await testAgent(t, {
    processTask: async ({ agent_type }) => ({ output: `${seen.push(agent_type)}` }),
  });
  const clusters = { support: { endpoints: [support.server.address] } };
  const { outboundPort } = await startDataPlane(t, { outbound: { clusters } });
  const app = await gatewayWith(t, {
    GATEWAY_AGENTS: '{triage: support, billing: {authority: support}}',
    GATEWAY_DEFAULT_AGENT: 'billing',
    TRIAGE_AGENT_ADDR: `127.0.0.1:${outboundPort}`,
    BILLING_AGENT_ADDR: `127.0.0.1:${outboundPort}`,
  });
  t.equal((await run(app, { input: 'x', agent_type: 'triage' })).statusCode, 200);
  t.equal((await run(app, { input: 'x' })).statusCode, 200);
  t.same(seen, ['triage', 'billing']);
  const unknown = await run(app, { input: 'x', agent_type: 'research' });
  t.match(unknown.json(), { error: { message: /the known ones are triage, billing/ } });
  const { paths } = (await app.inject('/docs/json')).json();
  const { properties } = paths['/api/v1/tasks'].post.requestBody.content['application/json'].schema;
  t.match(properties.agent_type, { default: 'billing', description: 'Which agent: billing, triage.' });
  t.same(Object.keys((await app.inject('/api/v1/health')).json()), ['triage', 'billing']);
  for (const [text, message] of [
    ['[x]', /must map agent types/],
    ['x: {addr: y}', /has "addr" at x/],
    ['x: {address: nowhere}', /address of x, must be host:port/],
    ['x: 3', /needs a name|has "/],
  ] as const)
    t.throws(() => readGatewaySettings({ GATEWAY_AGENTS: text }), { name: 'SettingError', message }, text);
});

t.test('what the sidecar routes is found, and asked through it', async (t) => {
  const agent = await testAgent(t, { processTask: async ({ agent_type }) => ({ output: agent_type }) });
  const sidecar = await startSidecar(
    t,
    {
      inbound: { app: 'none' },
      outbound: {
        clusters: {
          support: { endpoints: [agent.server.address], agent_types: ['triage', 'billing'] },
          'law-agent': { endpoints: [agent.server.address] },
          database: { endpoints: ['127.0.0.1:1'] },
        },
      },
    },
    { until: 'live' },
  );
  const env = {
    GATEWAY_DISCOVER: `http://127.0.0.1:${sidecar.adminPort}`,
    GATEWAY_TASKS_ADDR: `127.0.0.1:${sidecar.outboundPort}`,
  };
  const app = await gatewayWith(t, env);
  const health = (await app.inject('/api/v1/health')).json();
  t.same(Object.keys(health), ['triage', 'billing', 'law']);
  for (const agent_type of ['billing', 'law'])
    t.match((await run(app, { input: 'x', agent_type })).json(), { output: agent_type });
});

t.test('a type has the name by which its cluster is called', (t) => {
  const outbound = {
    routes: [
      { match: { authority: 'desk' }, cluster: 'support' },
      { match: { agent_type: 'code' }, cluster: 'programs' },
    ],
    clusters: { support: { agent_types: ['billing'] }, research: { bus: 'research' }, programs: {} },
  };
  t.same(Object.fromEntries(agentsIn({ outbound })), {
    code: 'code-agent',
    billing: 'desk',
    research: 'research',
  });
  t.same(agentsIn({}).size, 0);
  t.end();
});
