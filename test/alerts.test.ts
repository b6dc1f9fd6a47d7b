// The shipped alerts that go by what "Now" finds, on a real Prometheus that scrapes real sidecars: each is silent while all
// is well, fires during its outage, and is silent again behind it.
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { chat } from './llm/send.ts';
import { providerFor } from './llm/set-up.ts';
import { ok } from './support/answers.ts';
import { SecretVolume, TestAuthority } from './support/certificates.ts';
import { answerWhole, sendError } from './support/llm-provider.ts';
import { startPrometheus } from './support/prometheus.ts';
import { rulesText } from './support/promql.ts';
import { RawClient, startRawServer } from './support/raw-grpc.ts';
import { startSidecar } from './support/sidecar.ts';
import { skipWithout } from './support/tool.ts';
import { startUpstream } from './support/upstream.ts';
import { waitUntil } from './support/wait-until.ts';

t.setTimeout(200_000);
const DAY_MS = 86_400_000;
const provider = await providerFor(t);

t.test('each fires, and falls silent', { skip: skipWithout('prometheus') }, async (t) => {
  const app = await startRawServer(t);
  let hangs = false;
  const held: (() => void)[] = [];
  const agent = await startUpstream(t, {
    onCall: (call) => {
      if (hangs) held.push(() => ok(call.stream, call));
      else ok(call.stream, call);
    },
  });
  let refuses = false;
  const url = provider.script('refuses', (request, response) =>
    refuses ? sendError(response, 401) : answerWhole(request, response),
  );
  const authorityFor = (leftMs: number) =>
    TestAuthority.make('test', {
      notBeforeMs: Date.now() - 30 * DAY_MS,
      notAfterMs: Date.now() + leftMs,
    });
  const authority = await authorityFor(60 * DAY_MS);
  const ending = await authorityFor(DAY_MS);
  const issue = async (leftMs: number) => ({
    ...(await authority.issue({
      names: ['agent'],
      notBeforeMs: Date.now() - 30 * DAY_MS,
      notAfterMs: Date.now() + leftMs,
    })),
    ca: authority.ca,
  });
  const files = new SecretVolume(t, await issue(60 * DAY_MS));
  const sidecar = await startSidecar(t, {
    name: 'research',
    inbound: { app: app.address, tls: { cert: files.cert, key: files.key, client_ca: files.ca } },
    outbound: {
      routes: [{ match: { path_prefix: '/' }, cluster: 'writing' }],
      clusters: { writing: { endpoints: [agent.address] } },
    },
    llm: { upstreams: [{ name: 'openai', url, model: 'small' }] },
  });
  const prometheus = await startPrometheus(t, {
    targets: { research: sidecar.metricsPort },
    rules: rulesText.replaceAll(/interval: \d+s/g, 'interval: 1s').replaceAll(/for: \d+m/g, 'for: 2s'),
  });
  const firing = async (): Promise<string[]> => {
    const { alerts } = (await prometheus.get('alerts')) as {
      alerts: { state: string; labels: Record<string, string> }[];
    };
    return alerts.filter(({ state }) => state === 'firing').map(({ labels }) => labels['alertname']!);
  };
  const client = new RawClient(t, sidecar.outboundPort);
  const running = new Set<Promise<unknown>>();
  let goesOn = true;
  const ask = async (): Promise<void> => {
    const response = await fetch(`http://127.0.0.1:${sidecar.llmPort}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: 'Bearer sk-of-the-test' },
      body: chat(),
    });
    await response.arrayBuffer();
  };
  const traffic = (async () => {
    while (goesOn) {
      for (const one of [() => client.unary(Buffer.from('x'), { deadline: Date.now() + 60_000 }), ask]) {
        if (running.size > 20) continue;
        const call: Promise<unknown> = one()
          .catch(() => {})
          .finally(() => running.delete(call));
        running.add(call);
      }
      await sleep(100);
    }
  })();
  const release = (): void => {
    hangs = false;
    for (const answer of held.splice(0)) answer();
  };
  t.teardown(async () => {
    goesOn = false;
    release();
    await traffic;
  });
  await waitUntil('the usual is known, and scraped', async () => {
    const [answers] = await prometheus.query(
      'sum(rpc_client_call_duration_seconds_count{cluster="writing"})',
    );
    return (answers?.value ?? 0) >= 40;
  });
  t.same(await firing(), [], 'all is well');

  const outages: { alert: string; begin: () => unknown; end: () => unknown }[] = [
    { alert: 'OutriggerNoAnswers', begin: () => (hangs = true), end: release },
    { alert: 'OutriggerModelRefused', begin: () => (refuses = true), end: () => (refuses = false) },
    {
      alert: 'OutriggerCertificateExpires',
      begin: async () => files.replace(await issue(DAY_MS)),
      end: async () => files.replace(await issue(60 * DAY_MS)),
    },
    {
      alert: 'OutriggerCertificateExpired',
      begin: async () => files.replace(await issue(-DAY_MS)),
      end: async () => files.replace(await issue(60 * DAY_MS)),
    },
    {
      alert: 'OutriggerCertificateExpires',
      begin: async () => files.replace({ ...(await issue(60 * DAY_MS)), ca: ending.ca }),
      end: async () => files.replace({ ...(await issue(60 * DAY_MS)), ca: ending.ca + authority.ca }),
    },
  ];
  const happen = async ({ alert, begin, end }: (typeof outages)[number]): Promise<void> => {
    await begin();
    await waitUntil(`${alert} fires`, async () => (await firing()).includes(alert), { everyMs: 200 });
    await end();
    await waitUntil(`${alert} is silent`, async () => !(await firing()).includes(alert), { everyMs: 200 });
    t.pass(alert);
  };
  // Those of one certificate one behind the other.
  const [hang, refusal, late, expired, ofAuthority] = outages;
  await Promise.all([
    happen(hang!),
    happen(refusal!),
    happen(late!)
      .then(() => happen(expired!))
      .then(() => happen(ofAuthority!)),
  ]);
});
