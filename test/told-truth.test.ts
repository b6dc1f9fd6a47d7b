// A known mix of calls through two sidecars, the caller's and the agent's, and requests to a model, played twice: every
// series of `/metrics`, `/stats`, `/clusters`, `/live`, the access log and the spans say what the callers, the agent and the provider saw.
// A real Prometheus scrapes it all: every query of the dashboards, alerts and autoscaling gives what is true of the second round.
import t from 'tap';
import { skipWithout } from '../scripts/harness/tool.ts';
import { providerFor } from './llm/set-up.ts';
import { path, STREAMED_TASK, TASK } from './told/agent.ts';
import { playAsking } from './told/asking.ts';
import { Calls } from './told/calls.ts';
import { holdCalls } from './told/calls-told.ts';
import { holdClusters } from './told/clusters-told.ts';
import { Ledger, type ServedCall } from './told/ledger.ts';
import { Models } from './told/models.ts';
import { holdModels } from './told/models-told.ts';
import { Watcher } from './told/on-prometheus.ts';
import { processFacts, processTruths } from './told/process-facts.ts';
import { falseSeries } from './told/series.ts';
import { pageOf, spansOf, startToldSystem, untilAtRest } from './told/system.ts';

const llm = await providerFor(t);

t.test('every statement about metrics, queries and alerts is true', async (t) => {
  const startedAtS = Date.now() / 1000;
  const system = await startToldSystem(t, llm);
  const ledger = new Ledger();
  const calls = new Calls(t, system, ledger);
  const models = new Models(t, system, ledger);
  const watchers = await Promise.all(
    skipWithout('prometheus')
      ? []
      : (['classic', 'native'] as const).map((kind) => Watcher.start(t, system, kind)),
  );
  const each = (what: (watcher: Watcher) => Promise<void>) => Promise.all(watchers.map(what));

  const isLate = ({ method, code, isRace }: ServedCall): boolean =>
    method === path('Silent') && code === 'DEADLINE_EXCEEDED' && !isRace;
  const silent = { rpc_method: path('Silent').slice(1), rpc_status_code: 'DEADLINE_EXCEEDED' };
  let struckBefore = 0;
  for (const round of [1, 2]) {
    await models.play(round);
    calls.round = round;
    await playAsking(calls, models);
    const leave = round === 2 ? await models.waiting(round) : undefined;
    await calls.play(round, async (held) => {
      if (round === 2) await each((watcher) => watcher.seeHeld(held));
    });
    await leave?.();
    await untilAtRest(system);
    const late = (await pageOf(system.research)).value('rpc_server_call_duration_seconds_count', silent) ?? 0;
    const struck = late - ledger.served.filter(isLate).length;
    ledger.settleRaces(round, struck - struckBefore);
    struckBefore = struck;
    await each((watcher) => (round === 1 ? watcher.beginRound() : watcher.endRound()));
  }

  const atApp = ledger.served.filter((call) => call.atApp !== undefined).length;
  const direct = ledger.made.filter(({ cluster }) => ['bare', 'broken', 'ejecting'].includes(cluster));
  t.equal(
    system.agent.upstream.calls.length + system.bad.calls.length,
    atApp + direct.flatMap(({ attempts }) => attempts).length,
    'the agents have seen every call that came to them',
  );
  t.equal(system.provider.requests.length, ledger.models.flatMap(({ attempts }) => attempts).length);
  t.ok(system.agent.count(TASK) > 0 && system.agent.count(STREAMED_TASK) > 0);

  for (const service of ['caller', 'research'] as const) {
    const { pid } = system[service];
    const before = processFacts(pid);
    const page = await pageOf(system[service]);
    const others = processTruths(before, processFacts(pid), startedAtS);
    const spans = spansOf(system, service).length;
    const wrong = falseSeries(page, service, ledger, { others, spans });
    t.same(wrong, [], `every series of the ${service}'s sidecar`);
    t.ok(page.samples.size > 1_000, `${page.samples.size} series`);
    await holdCalls(t, system, ledger, service);
    await holdClusters(t, system, ledger, service);
  }
  await holdModels(t, system, ledger);
  for (const watcher of watchers) await watcher.hold(ledger.of(2), models.leftAloneAtS);
});
