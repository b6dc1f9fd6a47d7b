// The shipped alerts that go by what "Now" finds, on a real Prometheus that scrapes real sidecars: each is silent while all
// is well, fires during its outage, and is silent again behind it.
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { SecretVolume, TestAuthority } from '../scripts/harness/certificates.ts';
import { answerWhole, sendError } from '../scripts/harness/llm/provider.ts';
import { RawClient, startRawServer } from '../scripts/harness/raw-grpc.ts';
import { type Sidecar, startSidecar } from '../scripts/harness/sidecar.ts';
import { skipWithout } from '../scripts/harness/tool.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { chat } from './llm/send.ts';
import { providerFor } from './llm/set-up.ts';
import { ok } from './support/answers.ts';
import { startPrometheus } from './support/prometheus.ts';
import { rulesText } from './support/promql.ts';
import { startUpstream } from './support/upstream.ts';

t.setTimeout(200_000);
const DAY_MS = 86_400_000;
/** Answers are slow from 5 s on, and four times the slowest that was usual. */
const SLOW_MS = 9_000;
const provider = await providerFor(t);

/** Puts off what it is given while it is on; each for so long, which is far beyond the usual. */
class Delay {
  private isOn = false;
  private readonly waiting = new Map<() => void, NodeJS.Timeout>();

  readonly run = (answer: () => void): void => {
    if (!this.isOn) {
      answer();
      return;
    }
    const timer = setTimeout(() => {
      this.waiting.delete(answer);
      answer();
    }, SLOW_MS);
    this.waiting.set(answer, timer);
  };

  readonly begin = (): void => {
    this.isOn = true;
  };

  readonly end = (): void => {
    this.isOn = false;
    for (const [answer, timer] of this.waiting) {
      clearTimeout(timer);
      answer();
    }
    this.waiting.clear();
  };
}

t.test('each alert fires, and stops firing', { skip: skipWithout('prometheus') }, async (t) => {
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
  const slowAgent = new Delay();
  const slow = await startUpstream(t, {
    onCall: (call) => slowAgent.run(() => call.stream.destroyed || ok(call.stream, call)),
  });
  const slowModel = new Delay();
  const slowUrl = provider.script('slow', (request, response) =>
    slowModel.run(() => void answerWhole(request, response)),
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
    outbound: { clusters: { writing: { endpoints: [agent.address] } } },
    llm: { upstreams: [{ name: 'openai', url, model: 'small' }] },
  });
  const other = await startSidecar(t, {
    name: 'editing',
    inbound: { app: app.address },
    outbound: { clusters: { reviewing: { endpoints: [slow.address] } } },
    llm: { upstreams: [{ name: 'slow', url: slowUrl, model: 'large' }] },
  });
  const prometheus = await startPrometheus(t, {
    targets: { research: sidecar.metricsPort, editing: other.metricsPort },
    rules: rulesText.replaceAll(/interval: \d+s/g, 'interval: 1s').replaceAll(/for: \d+m/g, 'for: 2s'),
  });
  const firing = async (): Promise<string[]> => {
    const { alerts } = (await prometheus.get('alerts')) as {
      alerts: { state: string; labels: Record<string, string> }[];
    };
    return alerts
      .filter(({ state }) => state === 'firing')
      .map(({ labels: { alertname, cluster, provider } }) =>
        `${alertname} ${cluster ?? provider ?? ''}`.trim(),
      );
  };
  let goesOn = true;
  /** Ten a second, twenty at a time. */
  const trafficOf = async (one: () => Promise<unknown>): Promise<void> => {
    const running = new Set<Promise<unknown>>();
    while (goesOn) {
      if (running.size < 20) {
        const call: Promise<unknown> = one()
          .catch(() => {})
          .finally(() => running.delete(call));
        running.add(call);
      }
      await sleep(100);
    }
  };
  const callOf = ({ outboundPort }: Sidecar, cluster: string) => {
    const client = new RawClient(t, outboundPort, { 'grpc.default_authority': cluster });
    return () => client.unary(Buffer.from('x'), { deadline: Date.now() + 60_000 });
  };
  const askOf =
    ({ llmPort }: Sidecar) =>
    async (): Promise<void> => {
      const response = await fetch(`http://127.0.0.1:${llmPort}/v1/chat/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', authorization: 'Bearer sk-of-the-test' },
        body: chat(),
      });
      await response.arrayBuffer();
    };
  const traffic = Promise.all(
    [callOf(sidecar, 'writing'), askOf(sidecar), callOf(other, 'reviewing'), askOf(other)].map(trafficOf),
  );
  const release = (): void => {
    hangs = false;
    for (const answer of held.splice(0)) answer();
  };
  t.teardown(async () => {
    goesOn = false;
    release();
    slowAgent.end();
    slowModel.end();
    await traffic;
  });
  await waitUntil('the usual is known, and scraped', async () => {
    const known = await prometheus.query(
      '{__name__=~"rpc_client_call_duration_seconds_count|outrigger_llm_request_duration_seconds_count"} >= 40',
    );
    return known.length === 4;
  });
  t.same(await firing(), [], 'all is well');

  const outages: { alert: string; begin: () => unknown; end: () => unknown }[] = [
    { alert: 'OutriggerNoAnswers writing', begin: () => (hangs = true), end: release },
    { alert: 'OutriggerModelRefused openai', begin: () => (refuses = true), end: () => (refuses = false) },
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
  const slowness: typeof outages = [
    { alert: 'OutriggerAnswersSlow reviewing', begin: slowAgent.begin, end: slowAgent.end },
    { alert: 'OutriggerAnswersSlow slow', begin: slowModel.begin, end: slowModel.end },
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
    ...slowness.map(happen),
    happen(late!)
      .then(() => happen(expired!))
      .then(() => happen(ofAuthority!)),
  ]);
});
