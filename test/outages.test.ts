// The eight outages of an on-call night, each on real processes under traffic: "Now" is well before, names the cause
// first within ten seconds, and is well again when the outage is over.
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { credentials, status } from '@grpc/grpc-js';
import type { Browser } from 'playwright-core';
import t, { type Test } from 'tap';
import { SecretVolume, TestAuthority } from '../scripts/harness/certificates.ts';
import { freePort } from '../scripts/harness/free-port.ts';
import { answerWhole, sendError } from '../scripts/harness/llm/provider.ts';
import { startProcess, type TestProcess } from '../scripts/harness/process.ts';
import { RawClient, type RawServer, rawPaths, startRawServer } from '../scripts/harness/raw-grpc.ts';
import { type Sidecar, startSidecar } from '../scripts/harness/sidecar.ts';
import { requireTool, skipWithout, tool } from '../scripts/harness/tool.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { chat } from './llm/send.ts';
import { providerFor } from './llm/set-up.ts';
import { ok, trailersOnly } from './support/answers.ts';
import { openPage, startBrowser } from './support/browser.ts';
import { type Finding, lookOf, untilFound, untilWell } from './support/now.ts';
import { startUpstream, taskRequest } from './support/upstream.ts';

const provider = await providerFor(t);
const PROCESS_TASK = '/agent.AgentService/ProcessTask';
/** Ten seconds are ten looks; a machine that is busy with other tests gets some more. */
const MAX_LOOKS = 15;
/** Answers that must be known before anybody can say what is usual. */
const KNOWN = 30;

let app: RawServer;
t.before(async () => {
  app = await startRawServer(t);
});

interface Traffic {
  /** Calls or requests that have ended. */
  readonly ended: () => number;
  stop(): Promise<void>;
}

/** One more every so many milliseconds, while not too many are under way. */
function traffic(t: Test, everyMs: number, one: () => Promise<unknown>): Traffic {
  let goesOn = true;
  let ended = 0;
  const running = new Set<Promise<unknown>>();
  const done = (async () => {
    while (goesOn) {
      if (running.size < 40) {
        const call = one()
          .catch(() => {})
          .finally(() => {
            running.delete(call);
            ended++;
          });
        running.add(call);
      }
      await sleep(everyMs);
    }
  })();
  const stop = async (): Promise<void> => {
    goesOn = false;
    await done;
  };
  t.teardown(stop);
  return { ended: () => ended, stop };
}

interface Outage {
  readonly sidecar: Sidecar;
  readonly traffic: Traffic;
  begin(): unknown;
  end(): unknown;
  readonly kind: string;
  readonly text: RegExp;
  /** What follows from it, and stands behind it. */
  readonly follows?: (findings: readonly Finding[]) => void | Promise<void>;
  /** It is looked at in a browser, too. */
  readonly browser?: Browser | undefined;
}

async function happens(t: Test, outage: Outage): Promise<void> {
  const { sidecar, kind, text } = outage;
  await waitUntil('the usual is known', () => outage.traffic.ended() >= KNOWN);
  await untilWell(sidecar);
  const before = await lookOf(sidecar);
  t.match(before.summary, /^All is well/);
  await outage.begin();
  const found = await untilFound(sidecar, kind, text);
  t.ok(
    found.looks - before.looks <= MAX_LOOKS,
    `${kind} is the first finding after ${found.looks - before.looks} looks: ${found.findings[0]!.text} ${found.findings[0]!.detail}`,
  );
  await outage.follows?.(found.findings);
  if (outage.browser !== undefined) {
    const { page, errors } = await openPage(t, outage.browser, `http://127.0.0.1:${sidecar.adminPort}/`);
    const first = page.locator('#attention > li').first();
    await waitUntil('the page says it first', async () => text.test(await first.innerText()), {
      everyMs: 100,
    });
    t.match(await first.innerText(), /since \d\d:\d\d:\d\d/);
    await outage.end();
    await waitUntil(
      'the page says that all is well',
      async () => /^All is well/.test(await first.innerText()),
      { everyMs: 100 },
    );
    t.same(errors, []);
  } else await outage.end();
  const after = await untilWell(sidecar);
  t.match(after.summary, /^All is well/);
}

/** A sidecar that sends all calls to these endpoints. */
function sidecarTo(t: Test, endpoints: readonly string[], settings: object = {}): Promise<Sidecar> {
  return startSidecar(t, {
    inbound: { app: app.address },
    outbound: {
      routes: [{ match: { path_prefix: '/' }, cluster: 'research' }],
      clusters: { research: { endpoints, ...settings } },
    },
  });
}

/** One whose model provider does as the script says. */
async function sidecarWithModel(
  t: Test,
  name: string,
  script: Parameters<typeof provider.script>[1],
  settings = {},
) {
  const url = provider.script(name, script);
  const sidecar = await startSidecar(t, {
    inbound: { app: app.address },
    llm: { upstreams: [{ name: 'openai', url, model: 'small' }], ...settings },
  });
  const ask = async (): Promise<void> => {
    const response = await fetch(`http://127.0.0.1:${sidecar.llmPort}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: 'Bearer sk-of-the-test' },
      body: chat(),
    });
    await response.arrayBuffer();
  };
  return { sidecar, ask };
}

const agentScript = join(import.meta.dirname, 'support', 'agent-process.ts');

async function startAgent(t: Test, port: number): Promise<TestProcess> {
  const agent = startProcess(t, process.execPath, [agentScript, `${port}`]);
  await waitUntil('the agent listened', () => agent.logs().includes('listening'));
  return agent;
}

/** A grpcio agent, as teams write them. */
async function startPythonAgent(t: Test): Promise<{ agent: TestProcess; address: string }> {
  const script = join(import.meta.dirname, 'support', 'python', 'agent.py');
  const agent = startProcess(t, requireTool('python'), [script]);
  const port = await waitUntil('the agent said its port', () => /^(\d+)$/m.exec(agent.logs())?.[1]);
  return { agent, address: `127.0.0.1:${port}` };
}

const skip = skipWithout('python');

t.test('a finding names each outage', { skip }, async (t) => {
  const browser = tool('chromium') === undefined ? undefined : await startBrowser(t);
  let id = 0;
  const tasks = (sidecar: Sidecar, everyMs = 50): Traffic => {
    const client = new RawClient(t, sidecar.outboundPort);
    const task = () => taskRequest({ id: `task-${++id}`, type: 'research', input: 'echo yes' });
    return traffic(t, everyMs, () => client.unary(task(), { path: PROCESS_TASK }));
  };

  async function replicaKilled(): Promise<void> {
    const ports = [await freePort(), await freePort()];
    const agents = await Promise.all(ports.map((port) => startAgent(t, port)));
    const sidecar = await sidecarTo(
      t,
      ports.map((port) => `127.0.0.1:${port}`),
    );
    const client = new RawClient(t, sidecar.outboundPort);
    await happens(t, {
      sidecar,
      traffic: traffic(t, 100, () => client.unary(Buffer.from('x'))),
      begin: () => agents[0]!.kill('SIGKILL'),
      end: () => startAgent(t, ports[0]!),
      kind: 'endpoint_unreachable',
      text: new RegExp(`^127.0.0.1:${ports[0]} of research is (ejected, )?unreachable: .*ECONNREFUSED`),
    });
  }

  /** One of two, or both, of agents with sidecars of their own. */
  async function stopped(count: 1 | 2, withSidecars: boolean, inBrowser: boolean): Promise<void> {
    const agents = await Promise.all([startPythonAgent(t), startPythonAgent(t)]);
    const sidecars = withSidecars
      ? await Promise.all(
          agents.map(({ address }, i) =>
            startSidecar(t, { name: `research-${i}`, inbound: { app: address } }),
          ),
        )
      : [];
    const addresses = withSidecars
      ? sidecars.map(({ inboundPort }) => `127.0.0.1:${inboundPort}`)
      : agents.map(({ address }) => address);
    const sidecar = await sidecarTo(t, addresses);
    const each = (signal: NodeJS.Signals) => {
      for (const { agent } of agents.slice(0, count)) agent.kill(signal);
    };
    await happens(t, {
      sidecar,
      traffic: tasks(sidecar),
      begin: () => each('SIGSTOP'),
      end: () => each('SIGCONT'),
      ...(count === 1
        ? {
            kind: 'endpoint_silent',
            text: new RegExp(`^${addresses[0]} of research gives no sign of life`),
            follows: async () => {
              for (const own of sidecars.slice(0, 1))
                await untilFound(own, 'not_ready', /^Not ready: the app at .* is unreachable/);
            },
          }
        : {
            kind: 'cluster_silent',
            text: /^No answers from research: none of its endpoints gives a sign of life\./,
            follows: async ([first]: readonly Finding[]) => {
              const { waiting_calls: waiting, longest_wait_ms: longestMs } = first!.numbers;
              t.ok(waiting! >= 3, first!.detail);
              const page = await fetch(`http://127.0.0.1:${sidecar.adminPort}/clusters`);
              const { research } = (await page.json()) as {
                research: { endpoints: { latency_ms: number; longest_wait_ms: number }[] };
              };
              const expected = research.endpoints.map(({ latency_ms: expectedMs }) => expectedMs);
              t.ok(
                Math.max(...expected) >= longestMs!,
                `${expected.join(' and ')} ms are expected while calls wait`,
              );
              for (const endpoint of research.endpoints)
                t.ok(endpoint.latency_ms >= endpoint.longest_wait_ms - 1);
            },
          }),
      browser: inBrowser ? browser : undefined,
    });
  }

  async function throttled(): Promise<void> {
    let is429 = false;
    const { sidecar, ask } = await sidecarWithModel(t, 'throttles', (request, response) =>
      is429 ? sendError(response, 429, { 'retry-after': '1' }) : answerWhole(request, response),
    );
    await happens(t, {
      sidecar,
      traffic: traffic(t, 100, ask),
      begin: () => (is429 = true),
      end: () => (is429 = false),
      kind: 'provider_throttles',
      text: /^The model provider openai throttles small \(429\)\./,
      follows: ([first]) => void t.match(first!.numbers, { waiting_requests: Number }),
    });
  }

  async function slow(): Promise<void> {
    let held: (() => void)[] | undefined;
    const { sidecar, ask } = await sidecarWithModel(t, 'slow', async (request, response) => {
      if (held !== undefined) {
        const waiting = held;
        // The test's end does not wait for it.
        await new Promise<void>((resolve) => {
          waiting.push(resolve);
          setTimeout(resolve, 15_000).unref();
        });
      }
      await answerWhole(request, response);
    });
    await happens(t, {
      sidecar,
      traffic: traffic(t, 200, ask),
      begin: () => (held = []),
      end: () => {
        for (const answer of held!) answer();
        held = undefined;
      },
      kind: 'provider_slow',
      text: /^The model provider openai takes far longer than usual to answer small\./,
      follows: ([first]) =>
        void t.match(
          first!.detail,
          /requests wait for an answer, the longest for [\d.]+ s; none of \d+ before/,
        ),
    });
  }

  async function wrongKey(): Promise<void> {
    let isWrong = false;
    const { sidecar, ask } = await sidecarWithModel(t, 'key', (request, response) =>
      isWrong ? sendError(response, 401) : answerWhole(request, response),
    );
    await happens(t, {
      sidecar,
      traffic: traffic(t, 100, ask),
      begin: () => (isWrong = true),
      end: () => (isWrong = false),
      kind: 'provider_refuses',
      text: /^The model provider openai refuses small with 401: is the API key right\?/,
      follows: ([first]) => void t.notMatch(JSON.stringify(first), 'sk-of-the-test'),
      browser,
    });
  }

  async function modelCircuit(): Promise<void> {
    let fails = false;
    const { sidecar, ask } = await sidecarWithModel(
      t,
      'fails',
      (request, response) => (fails ? sendError(response, 500) : answerWhole(request, response)),
      { circuit_breaker: { recovery_timeout: '1s', window: '5s' }, retry: { max_attempts: 1 } },
    );
    await happens(t, {
      sidecar,
      traffic: traffic(t, 100, ask),
      begin: () => (fails = true),
      end: () => (fails = false),
      kind: 'provider_fails',
      text: /^The model provider openai fails for small: 500\./,
    });
  }

  async function circuitOpen(): Promise<void> {
    let answer = ok;
    const upstream = await startUpstream(t, { onCall: (call) => answer(call.stream, call) });
    const sidecar = await sidecarTo(t, [upstream.address], {
      circuit_breaker: { recovery_timeout: '1s' },
      retry: { max_attempts: 1 },
    });
    const client = new RawClient(t, sidecar.outboundPort);
    await happens(t, {
      sidecar,
      traffic: traffic(t, 100, () => client.unary(Buffer.from('x'))),
      begin: () => (answer = trailersOnly(status.INTERNAL)),
      end: () => (answer = ok),
      kind: 'circuit_open',
      text: /^The circuit of research Raw\/Unary is open: (5 calls in a row failed|\d+ of \d+ calls|a probe failed).*internal/,
    });
  }

  async function certificateExpired(): Promise<void> {
    const authority = await TestAuthority.make();
    const names = ['localhost', '127.0.0.1'];
    const good = { ...(await authority.issue({ names })), ca: authority.ca };
    const expired = {
      ...(await authority.issue({ names, notAfterMs: Date.now() - 60_000 })),
      ca: authority.ca,
    };
    const files = new SecretVolume(t, good);
    const sidecar = await startSidecar(t, {
      inbound: { app: app.address, tls: { cert: files.cert, key: files.key } },
    });
    const call = async (): Promise<unknown> => {
      // A handshake for each call.
      const client = new RawClient(
        t,
        sidecar.inboundPort,
        {},
        credentials.createSsl(Buffer.from(authority.ca)),
      );
      const outcome = await client.unary(Buffer.from('x'), {
        path: rawPaths.unary,
        deadline: Date.now() + 5_000,
      });
      client.client.close();
      return outcome;
    };
    await happens(t, {
      sidecar,
      traffic: traffic(t, 100, call),
      begin: () => files.replace(expired),
      end: () => files.replace(good),
      kind: 'certificate_expired',
      text: /^The certificate of inbound\.tls has expired \(\d{4}-.*\), and others refuse it: renew it\./,
    });
  }

  /** The ninth: an agent whose process is well, and whose calls get stuck. */
  async function agentHangs(): Promise<void> {
    let held: (() => void)[] | undefined;
    const upstream = await startUpstream(t, {
      onCall: (call) => {
        if (held === undefined) ok(call.stream, call);
        else held.push(() => ok(call.stream, call));
      },
    });
    const sidecar = await sidecarTo(t, [upstream.address]);
    const client = new RawClient(t, sidecar.outboundPort);
    await happens(t, {
      sidecar,
      traffic: traffic(t, 200, () => client.unary(Buffer.from('x'))),
      begin: () => (held = []),
      end: () => {
        for (const answer of held!) answer();
        held = undefined;
      },
      kind: 'no_answers',
      text: /^No answers from research Raw\/Unary: calls wait for far longer than usual/,
    });
  }

  /** Nothing was ever answered, so nothing is usual. */
  async function hangsFromTheStart(): Promise<void> {
    const held: (() => void)[] = [];
    const upstream = await startUpstream(t, { onCall: (call) => held.push(() => ok(call.stream, call)) });
    const young = await startSidecar(t, { inbound: { app: upstream.address } });
    const client = new RawClient(t, young.inboundPort);
    const calls = [client.unary(Buffer.from('x')), client.unary(Buffer.from('x'))];
    const look = await waitUntil('nobody is told that all is well', async () => {
      const look = await lookOf(young);
      return !look.well && look;
    });
    t.strictSame(look.findings, [], 'a task may take long');
    t.match(
      look.summary,
      /^Nothing is known to be wrong, but an answer of app Raw\/Unary has been waited for/,
    );
    t.match(look.detail, /^2 calls wait, the longest for \d+ s$/);
    for (const answer of held) answer();
    await Promise.all(calls);
    t.match((await untilWell(young)).summary, /^All is well/);
  }

  /** What is no outage: a few calls a minute, some of which take long. */
  async function longTasks(): Promise<void> {
    const { address } = await startPythonAgent(t);
    const sidecar = await sidecarTo(t, [address]);
    const client = new RawClient(t, sidecar.outboundPort);
    const task = (input: string) =>
      client.unary(taskRequest({ id: `long-${++id}`, type: 'research', input }), { path: PROCESS_TASK });
    for (let count = 0; count < KNOWN; count++) await task('echo yes');
    await untilWell(sidecar);
    const { looks: before } = await lookOf(sidecar);
    let running = true;
    const long = Promise.all([task('sleep 14'), task('sleep 13')]).finally(() => (running = false));
    const seen = new Set<string>();
    while (running) {
      seen.add((await lookOf(sidecar)).summary);
      await sleep(300);
    }
    t.strictSame(
      (await long).map(({ code }) => code),
      [0, 0],
    );
    t.ok((await lookOf(sidecar)).looks - before >= 8, 'it was looked at meanwhile');
    t.strictSame([...seen], ['All is well: 2 endpoints are in service, no circuit is open.']);
  }

  await Promise.all([
    replicaKilled(),
    stopped(2, false, true),
    stopped(1, true, false),
    throttled(),
    slow(),
    wrongKey(),
    modelCircuit(),
    circuitOpen(),
    certificateExpired(),
    agentHangs(),
    hangsFromTheStart(),
    longTasks(),
  ]);
});
