// A provider's refusal reaches the person who asked: through the agents and sidecars, in the gateway's answer, on the
// page and at the end of `npm start -- --task`.
import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Metadata, status } from '@grpc/grpc-js';
import { pino } from 'pino';
import t, { type Test } from 'tap';
import { createGateway } from '../agents/gateway/app.ts';
import { readGatewaySettings } from '../agents/gateway/settings.ts';
import { type Run, runStart } from '../agents/local/test-support.ts';
import { freePort } from '../scripts/harness/free-port.ts';
import { answerWhole, type Script, sendJson } from '../scripts/harness/llm/provider.ts';
import { startProcess } from '../scripts/harness/process.ts';
import { RawClient, startRawServer } from '../scripts/harness/raw-grpc.ts';
import { type Sidecar, startSidecar } from '../scripts/harness/sidecar.ts';
import { requireTool, skipWithout } from '../scripts/harness/tool.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { chat, send } from './llm/send.ts';
import { providerFor } from './llm/set-up.ts';
import { openPage, startBrowser } from './support/browser.ts';
import { taskRequest } from './support/upstream.ts';

const provider = await providerFor(t);

const PYTHON_AGENT = 'support/python/model_agent.py';
const KEY = 'sk-live-7f3a9c2e51d84b60';

const REFUSALS: Readonly<Record<string, [number, object]>> = {
  'wrong-key': [
    401,
    {
      error: {
        message: `Incorrect API key provided: sk-live*************4b60 (${KEY}).`,
        type: 'invalid_request_error',
        code: 'invalid_api_key',
      },
    },
  ],
  'no-model': [
    404,
    { error: { message: 'The model `gpt-9` does not exist', type: 'x', code: 'model_not_found' } },
  ],
  'no-money': [
    429,
    {
      error: {
        message: 'You exceeded your current quota, please check your plan and billing details.',
        type: 'insufficient_quota',
        code: 'insufficient_quota',
      },
    },
  ],
  unpaid: [402, { error: { message: 'Insufficient credits', code: 402 } }],
  busy: [503, { error: { message: 'The engine is overloaded', type: 'server_error' } }],
};

/** Refuses as the question says. */
const refusing: Script = (request, response) => {
  if (!request.path.startsWith('/v1/')) {
    response.writeHead(404, { 'content-type': 'text/plain' }).end('404 page not found');
    return;
  }
  const name = Object.keys(REFUSALS).find((one) => request.body.includes(`asks ${one}`));
  if (name === undefined) return answerWhole(request, response);
  sendJson(response, ...REFUSALS[name]!);
};

const baseUrl = provider.script('refusing', refusing);

interface Model {
  readonly status?: number;
  readonly reason?: string;
  readonly upstream?: string;
  readonly path?: string;
  readonly message?: string;
  readonly way?: readonly string[];
}

interface ErrorBody {
  readonly error: {
    readonly code: string;
    readonly message: string;
    readonly reason?: string;
    model?: Model;
  };
}

async function startSystem(t: Test): Promise<{ run: Run; url: string }> {
  const run = runStart(t, [], { OPENAI_API_KEY: KEY, OPENAI_BASE_URL: baseUrl });
  const url = await waitUntil(
    'the system is up',
    () => {
      if (run.child.exitCode !== null) throw new Error(run.output());
      return /Ctrl-C stops it/.test(run.output()) && /page +(http:\S+)\//.exec(run.output())?.[1];
    },
    { limitMs: 90_000 },
  );
  return { run, url };
}

t.test("the gateway's answer and the page show the provider's message", async (t) => {
  const { url } = await startSystem(t);
  const post = async (input: string, agent_type: string, accept = 'application/json') => {
    const answer = await fetch(`${url}/api/v1/tasks`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept },
      body: JSON.stringify({ input: `asks ${input}`, agent_type }),
    });
    const text = await answer.text();
    t.notMatch(text, /sk-live|4b60/, `${input}: no key, nor its ends`);
    const body = JSON.parse(text.replace(/^event: error\ndata: /, '')) as ErrorBody;
    return { answer, ...body.error };
  };
  const path = '/refusing/v1/chat/completions';
  for (const [input, agent, httpStatus, code, message, retryAfter] of [
    ['wrong-key', 'writing', 502, 'INTERNAL', /HTTP 401 .*Incorrect API key provided: \[secret\]/, null],
    ['no-model', 'code', 502, 'INTERNAL', /HTTP 404 .*The model `gpt-9` does not exist/, null],
    ['no-money', 'writing', 429, 'RESOURCE_EXHAUSTED', /HTTP 429.*exceeded your current quota/, null],
    ['unpaid', 'code', 429, 'RESOURCE_EXHAUSTED', /HTTP 402.*Insufficient credits/, null],
    ['busy', 'code', 503, 'UNAVAILABLE', /answered (HTTP )?503.*The engine is overloaded/, '1'],
  ] as const) {
    // The breaker of a busy provider opens at the second one, which has its words all the same.
    for (const accept of ['application/json', 'text/event-stream']) {
      const before = provider.requests('refusing').length;
      const told = await post(input, agent, accept);
      t.equal(told.answer.status, httpStatus, `${input}, ${accept}`);
      t.equal(told.code, code);
      t.match(told.message, message);
      t.equal(told.answer.headers.get('retry-after'), retryAfter);
      const [providersStatus] = REFUSALS[input]!;
      t.same(told.model?.way, [`${agent}-1`]);
      if (told.model?.reason === 'circuit_open') continue;
      t.match(told.model, { status: providersStatus, upstream: 'local', path, model: 'gpt-4o-mini' });
      if (input !== 'busy') t.equal(provider.requests('refusing').length, before + 1, 'asked once');
    }
  }

  await t.test('the message appears also when the circuit is open', async (t) => {
    const told = await waitUntil('the circuit is open', async () => {
      const one = await post('wrong-key', 'research');
      return one.reason === 'circuit_open' && one;
    });
    t.equal(told.answer.status, 503);
    t.match(told.message, /HTTP 401.*Incorrect API key provided: \[secret\]/);
  });

  await t.test('the page shows the failure', { skip: skipWithout('chromium') }, async (t) => {
    const browser = await startBrowser(t);
    const { page, errors } = await openPage(t, browser, `${url}/`);
    await page.locator('.node').first().waitFor();
    await page.locator('select').selectOption('writing');
    await page.locator('textarea').fill('asks wrong-key <img src=x onerror="window.injected=1">');
    await page.getByRole('button', { name: 'Send', exact: true }).click();
    await page.locator('#outcome', { hasText: /^Failed: / }).waitFor();
    t.match(
      await page.locator('#outcome').innerText(),
      /INTERNAL: the writing agent failed: the model provider local answered HTTP 401 .*: Incorrect API key provided: \[secret\]/,
    );
    t.strictSame(await page.locator('#route li').allInnerTexts(), [
      'gateway → its sidecar → sidecar of writing-1 → writing-1: INTERNAL',
      `sidecar of writing-1 → local ${path} (gpt-4o-mini): HTTP 401`,
    ]);
    t.same(
      errors.filter((error) => !/502/.test(error)),
      [],
    );
  });
});

t.test("the page shows the provider's message and the route of a task", async (t) => {
  const runs = [
    runStart(t, ['--task', 'asks wrong-key'], { OPENAI_API_KEY: KEY, OPENAI_BASE_URL: baseUrl }),
    runStart(t, ['--no-sidecar', '--task', 'asks wrong-key'], {
      OPENAI_API_KEY: KEY,
      OPENAI_BASE_URL: baseUrl,
    }),
  ];
  // One after the other: both want the same ports, and the machine has few processors.
  const [withSidecars, without] = [await runs[0]!.ended, await runs[1]!.ended];
  t.equal(withSidecars[0], 1);
  t.equal(without[0], 1);
  const [output, direct] = runs.map((run) => run.output());
  t.match(
    output,
    /the task failed: the research agent failed: .* HTTP 401 .*Incorrect API key provided: \[secret\].*\(HTTP 502, INTERNAL\)/,
  );
  t.match(
    output,
    /cluster research, one attempt: INTERNAL\s+→ sidecar of (research-[12]) .*\1 \(127\.0\.0\.1:\d+\)\s+→ http:\S+\/v1: the model provider local answered HTTP 401/,
  );
  t.match(direct, /the task failed: .*HTTP 401.*Incorrect API key provided: \[secret\]/);

  const noVersion = runStart(t, ['--task', 'x'], {
    OPENAI_API_KEY: KEY,
    OPENAI_BASE_URL: baseUrl.replace(/\/v1$/, ''),
  });
  await noVersion.ended;
  t.match(
    noVersion.output(),
    /HTTP 404 to \/refusing\/chat\/completions .*404 page not found \(is \/v1 missing from the base URL\?\)/,
  );
  for (const run of [...runs, noVersion]) t.notMatch(run.output(), /sk-live|4b60/);
});

/** An agent of somebody else's: it asks its model, or another agent, and says nothing but that it has failed. */
async function startStranger(t: Test, name: string, calls?: Sidecar, inbound = {}): Promise<Sidecar> {
  const unaryPath = '/agent.AgentService/ProcessTask';
  const outbound: { client?: RawClient; sidecar?: Sidecar } = {};
  const app = await startRawServer(
    t,
    {
      unary: async ({ request, metadata }, callback) => {
        const given = new Metadata();
        const traceparent = String(metadata.get('traceparent')[0]);
        given.set('traceparent', traceparent);
        const { sidecar, client } = outbound;
        if (client !== undefined) {
          const { code } = await client.unary(request, { path: unaryPath, metadata: given });
          callback({ code: code === 0 ? status.OK : status.UNKNOWN }, Buffer.alloc(0));
          return;
        }
        const content = /asks [\w-]+/.exec(request.toString())?.[0];
        const ask = (text: string | undefined) =>
          send(
            `http://127.0.0.1:${sidecar!.llmPort}/v1`,
            '/chat/completions',
            chat({ messages: [{ role: 'user', content: text }] }),
            { traceparent, authorization: `Bearer ${KEY}` },
          ).answer;
        await ask(content);
        if (request.includes('recovers')) await ask('something else');
        if (request.includes('hangs')) return;
        callback({ code: status.UNKNOWN, details: 'Exception calling application' }, null);
      },
    },
    { unaryPath },
  );
  outbound.sidecar = await startSidecar(t, {
    name,
    inbound: { app: app.address, ...inbound },
    llm: { upstreams: [{ name: 'openai', url: baseUrl }], retry: { max_attempts: 1 } },
    ...(calls === undefined
      ? {}
      : {
          outbound: {
            routes: [{ match: { path_prefix: '/' }, cluster: 'other' }],
            clusters: { other: { endpoints: [`127.0.0.1:${calls.inboundPort}`] } },
          },
        }),
  });
  if (calls !== undefined) outbound.client = new RawClient(t, outbound.sidecar.outboundPort);
  return outbound.sidecar;
}

t.test('sidecars report the failure for silent agents, through every hop', async (t) => {
  const inner = await startStranger(t, 'inner');
  const outer = await startStranger(t, 'outer', inner);
  const late = await startStranger(t, 'late', undefined, { timeout: '5s' });
  const [toOuter, toLate] = [outer, late].map(({ inboundPort }) => new RawClient(t, inboundPort));
  const ask = async (input: string, client = toOuter!, expected = status.UNKNOWN) => {
    const { code, trailers } = await client.unary(taskRequest({ id: input, input }), {
      path: '/agent.AgentService/ProcessTask',
    });
    t.equal(code, expected, input);
    const values = trailers.get('outrigger-model-failure');
    t.ok(values.length <= 1);
    t.notMatch(String(values[0]), /sk-live|4b60/);
    return values[0] === undefined ? undefined : (JSON.parse(String(values[0])) as Model);
  };
  const hanging = ask('asks wrong-key and hangs', toLate!, status.DEADLINE_EXCEEDED);
  t.strictSame(await ask('asks wrong-key'), {
    status: 401,
    upstream: 'openai',
    path: '/refusing/v1/chat/completions',
    model: 'm',
    message: 'Incorrect API key provided: [secret] ([secret]).',
    way: ['outer', 'inner'],
  });
  t.match(await ask('asks busy'), { status: 503, message: 'The engine is overloaded' });
  t.equal(
    await ask('fails by itself'),
    undefined,
    'what fails for another reason is not blamed on the model',
  );
  t.equal(await ask('asks busy and recovers'), undefined);
  t.match(await hanging, { status: 401, way: ['late'] }, 'also where the sidecar answers in its place');
});

t.test(
  'the gateway reports the failure of an agent in Python that does not handle errors',
  { skip: skipWithout('python', 'model-clients') },
  async (t) => {
    const llmPort = await freePort();
    const libraries = join(dirname(requireTool('model-clients')), '..', 'lib');
    const agent = startProcess(t, requireTool('python'), [join(import.meta.dirname, PYTHON_AGENT)], {
      env: {
        PYTHONPATH: readdirSync(libraries)
          .map((version) => join(libraries, version, 'site-packages'))
          .join(':'),
        OPENAI_BASE_URL: `http://127.0.0.1:${llmPort}/v1`,
        OPENAI_API_KEY: KEY,
      },
    });
    const port = await waitUntil('the agent said its port', () => /^(\d+)$/m.exec(agent.logs())?.[1]);
    const sidecar = await startSidecar(t, {
      name: 'python-agent',
      inbound: { app: `127.0.0.1:${port}` },
      llm: { listen: `127.0.0.1:${llmPort}`, upstreams: [{ name: 'openai', url: baseUrl }] },
    });
    const settings = readGatewaySettings({ RESEARCH_AGENT_ADDR: `127.0.0.1:${sidecar.inboundPort}` });
    const gateway = await createGateway(settings, pino({ level: 'silent' }));
    t.teardown(() => gateway.stop(0));
    const url = await gateway.app.listen({ host: '127.0.0.1', port: 0 });
    const ask = async (input: string, accept: string) => {
      const answer = await fetch(`${url}/api/v1/tasks`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', accept },
        body: JSON.stringify({ input }),
      });
      return { status: answer.status, text: await answer.text() };
    };
    for (const accept of ['application/json', 'text/event-stream']) {
      t.equal((await ask('x', accept)).status, 200);
      const refused = await ask('asks wrong-key', accept);
      t.equal(refused.status, 502);
      t.match(refused.text, /the research agent failed: the model provider openai answered HTTP 401 /);
      t.match(refused.text, /Incorrect API key provided: \[secret\].*"way":\["python-agent"\]/);
      t.notMatch(refused.text, /sk-live|4b60/);
      t.match((await ask('asks no-money', accept)).text, /HTTP 429 .*You exceeded your current quota/);
    }
  },
);

t.test("/status at the metrics port quotes no provider, and the admin port's does", async (t) => {
  const { inboundPort, adminPort, metricsPort } = await startStranger(t, 'quoting');
  const client = new RawClient(t, inboundPort);
  const statusOf = async (port: number): Promise<string> =>
    (await fetch(`http://127.0.0.1:${port}/status`)).text();
  await waitUntil('a finding quotes the provider', async () => {
    const request = taskRequest({ id: `q ${Math.random()}`, input: 'asks busy' });
    await client.unary(request, { path: '/agent.AgentService/ProcessTask' });
    return /The engine is overloaded/.test(await statusOf(adminPort));
  });
  const text = await statusOf(metricsPort);
  t.notMatch(text, /engine/);
  const { findings } = JSON.parse(text) as { findings: { kind: string; text: string; about: object }[] };
  t.match(
    findings.find(({ kind }) => kind === 'circuit_open' || kind === 'calls_fail'),
    { severity: 'bad', about: { cluster: 'app' }, text: /^(A circuit of app is open|Calls to app fail)\.$/ },
  );
});
