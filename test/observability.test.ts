// Every query on a dashboard and in an alert, asked of a real Prometheus that has scraped real sidecars while calls
// went well and failed; the alerts' own tests; and that dashboards, alerts and docs speak of metrics that exist.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { parseExposition } from '../scripts/harness/exposition.ts';
import { runProcess } from '../scripts/harness/process.ts';
import { requireTool, skipWithout } from '../scripts/harness/tool.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { startObservedSystem } from './support/observed-system.ts';
import { startPrometheus } from './support/prometheus.ts';
import {
  autoscalingQueries,
  dashboardQueries,
  linkQueries,
  ruleQueries,
  rulesText,
  type WrittenQuery,
} from './support/promql.ts';

const files = join(import.meta.dirname, '../k8s/observability/files');

t.setTimeout(290_000);

/** Queries that give nothing here, each with its reason. Their metrics must exist all the same. */
const NO_DATA: Readonly<Record<string, string>> = {
  ...Object.fromEntries(
    ['NoAnswers', 'AnswersSlow', 'ModelRefused', 'CertificateExpired', 'CertificateExpires'].map((name) => [
      `alert Outrigger${name}`,
      'nothing hangs or refuses here; alerts.test.ts makes each of them fire',
    ]),
  ),
  ...Object.fromEntries(
    ['DeadLetters', 'BusUnavailable', 'TasksWait'].map((name) => [
      `alert Outrigger${name}`,
      'no bus runs here; the rules have tests of their own',
    ]),
  ),
  'alert OutriggerWebhookCertificateExpires': 'no webhook runs here, and its certificate would be fresh',
  'alert OutriggerEventLoopBusy':
    'no sidecar is busy for five minutes; the ratio on the dashboard gives data',
};

t.test('a real Prometheus answers the queries', { skip: skipWithout('prometheus') }, async (t) => {
  const system = await startObservedSystem(t);
  const prometheus = await startPrometheus(t, {
    targets: system.targets,
    // Not to wait half a minute for the first recorded value.
    rules: rulesText.replaceAll(/interval: \d+s/g, 'interval: 1s'),
  });
  await waitUntil('every sidecar was scraped before the first call', async () => {
    const up = await prometheus.query('outrigger_ready');
    return up.length === 2;
  });
  let done = false;
  const traffic = (async () => {
    while (!done) {
      await system.round();
      await sleep(300);
    }
  })();
  t.teardown(() => (done = true));

  const queries = [...dashboardQueries(), ...linkQueries(), ...autoscalingQueries(), ...ruleQueries()];
  t.ok(queries.length > 50, `${queries.length} queries`);
  const wanting = new Map<string, WrittenQuery>(
    queries.filter(({ where }) => !(where in NO_DATA)).map((query) => [query.where, query]),
  );
  t.equal(wanting.size, queries.length - Object.keys(NO_DATA).length, 'each has a name of its own');
  // Each is asked until it has data: rates need some scrapes, and some failures a few rounds.
  await waitUntil(
    'every query gave data',
    async () => {
      for (const { where, promql } of wanting.values()) {
        const data = await prometheus.query(promql);
        if (data.some(({ value }) => Number.isFinite(value))) wanting.delete(where);
      }
      return wanting.size === 0;
    },
    { limitMs: 150_000, everyMs: 500 },
  ).catch(() => {});
  for (const { where, promql } of queries) t.notOk(wanting.has(where), `${where}: ${promql}`);

  for (const where of Object.keys(NO_DATA)) {
    const query = queries.find((query) => query.where === where);
    t.ok(query, `${where} is still there`);
    t.same(await prometheus.query(query!.promql), [], `${where} gives data now: take it off the list`);
  }

  await t.test('exemplars are traces of our calls', async (t) => {
    for (const { promql } of queries.filter(({ exemplars }) => exemplars)) {
      const end = Date.now() / 1000;
      const found = (await prometheus.get('query_exemplars', {
        query: promql,
        start: String(end - 120),
        end: String(end),
      })) as { exemplars: { labels: Record<string, string> }[] }[];
      const ids = found.flatMap(({ exemplars }) => exemplars.map(({ labels }) => labels['trace_id'] ?? ''));
      t.ok(ids.length > 0, promql);
      t.ok(
        ids.every((id) => system.traceIds.has(id)),
        `${ids.length} exemplars`,
      );
    }
  });

  await t.test('a failure fires its alert', async (t) => {
    const { groups } = (await prometheus.get('rules')) as {
      groups: { rules: { name: string; health: string; lastError?: string; state?: string }[] }[];
    };
    for (const { name, health, lastError } of groups.flatMap(({ rules }) => rules))
      t.equal(health, 'ok', `${name} ${lastError ?? ''}`);
    const active = groups
      .flatMap(({ rules }) => rules)
      .filter(({ state }) => state === 'pending' || state === 'firing');
    t.ok(
      active.some(({ name }) => name === 'OutriggerCircuitOpen'),
      active.map(({ name }) => name).join(' '),
    );
  });

  await t.test('Prometheus accepts every line, as OpenMetrics and as text', async (t) => {
    const { activeTargets } = (await prometheus.get('targets')) as {
      activeTargets: { labels: { service: string }; health: string; lastError: string }[];
    };
    for (const { labels, health, lastError } of activeTargets)
      t.equal(health, labels.service === 'gone' ? 'down' : 'up', `${labels.service} ${lastError}`);
    for (const accept of ['application/openmetrics-text;version=1.0.0', 'text/plain']) {
      const response = await fetch(`http://127.0.0.1:${system.gateway.metricsPort}/metrics`, {
        headers: { accept },
      });
      const page = parseExposition(await response.text());
      t.equal(page.openMetrics, accept !== 'text/plain');
    }
  });
  done = true;
  await traffic;
});

t.test(
  'the rules are valid, and each alert fires when it should and not before',
  {
    skip: skipWithout('promtool'),
  },
  async (t) => {
    const promtool = requireTool('promtool');
    const check = await runProcess(t, promtool, ['check', 'rules', join(files, 'prometheus/rules.yaml')]);
    t.equal(check.code, 0, check.output);
    const tests = join(files, 'prometheus/rules.test.yaml');
    const run = await runProcess(t, promtool, ['test', 'rules', tests]);
    t.equal(run.code, 0, run.output);
    const text = readFileSync(tests, 'utf8');
    for (const { where, kind } of ruleQueries()) {
      if (kind === 'alert') t.match(text, where.slice('alert '.length), `${where} has a test`);
    }
  },
);
