// Watches the known mix from a real Prometheus, and holds every shipped query and rule to the truth of its second round.
import type { Test } from 'tap';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { type Prometheus, startPrometheus } from '../support/prometheus.ts';
import {
  autoscalingQueries,
  dashboardQueries,
  linkQueries,
  ruleQueries,
  rulesText,
  type WrittenQuery,
} from '../support/promql.ts';
import type { Ledger } from './ledger.ts';
import { answerAt, type Scraped, scrapedFromNow } from './moments.ts';
import { activeAlerts, autoscalingTruths, linkTruths, ruleTruths } from './other-queries.ts';
import { LEFT_ALONE_S } from './provider.ts';
import { type Facts, falseValues, keyOf, type Truths } from './query-truth.ts';
import { spansOf, type ToldSystem } from './system.ts';
import { tasksBoard } from './tasks-board.ts';
import { trafficBoard } from './traffic-board.ts';

const SERVICES = ['caller', 'research'] as const;

export class Watcher {
  readonly kind: Facts['kind'];
  private readonly t: Test;
  private readonly system: ToldSystem;
  private readonly prometheus: Prometheus;
  /** Before the second round, while its calls are held, and after it. */
  private begin: Scraped | undefined;
  private middle: Scraped | undefined;
  private end: Scraped | undefined;
  private heldCalls = 0;
  private heldUntilS = 0;
  private readonly spansBefore = { caller: 0, research: 0 };

  private constructor(t: Test, system: ToldSystem, kind: Facts['kind'], prometheus: Prometheus) {
    this.t = t;
    this.system = system;
    this.kind = kind;
    this.prometheus = prometheus;
  }

  static async start(t: Test, system: ToldSystem, kind: Facts['kind']): Promise<Watcher> {
    const prometheus = await startPrometheus(t, {
      targets: { caller: system.caller.metricsPort, research: system.research.metricsPort },
      // Not to wait half a minute for the first recorded value.
      rules: rulesText.replaceAll(/interval: \d+s/g, 'interval: 1s'),
      features: kind === 'native' ? ['native-histograms'] : [],
    });
    return new Watcher(t, system, kind, prometheus);
  }

  async beginRound(): Promise<void> {
    for (const service of SERVICES) this.spansBefore[service] = spansOf(this.system, service).length;
    this.begin = await scrapedFromNow(this.prometheus);
  }

  async seeHeld(calls: number): Promise<void> {
    this.heldCalls = calls;
    this.middle = await scrapedFromNow(this.prometheus);
    this.heldUntilS = Date.now() / 1000;
  }

  async endRound(): Promise<void> {
    this.end = await scrapedFromNow(this.prometheus);
  }

  /** @param leftAloneAtS see `Models` */
  async hold(round: Ledger, leftAloneAtS: readonly [from: number, to: number]): Promise<void> {
    const queries = [...dashboardQueries(), ...linkQueries(), ...autoscalingQueries(), ...ruleQueries()];
    const unknown = new Set(queries.map(({ where }) => where));
    const active: string[] = [];
    for (const service of SERVICES) {
      const heldAtS = this.middle![service];
      const facts: Facts = {
        service,
        ledger: round.ofService(service),
        kind: this.kind,
        endpoints: this.system.endpoints,
        held: this.heldCalls,
        spans: spansOf(this.system, service).length - this.spansBefore[service],
        coolingS: [
          LEFT_ALONE_S - (this.heldUntilS - leftAloneAtS[0]),
          LEFT_ALONE_S - (heldAtS - leftAloneAtS[1]),
        ],
      };
      const truths: Truths = {
        ...named('outrigger-tasks.json: ', tasksBoard(facts)),
        ...named('outrigger-traffic.json: ', trafficBoard(facts)),
        ...linkTruths(facts),
        ...autoscalingTruths(facts),
        ...ruleTruths(facts),
      };
      const wrong: string[] = [];
      for (const query of queries) {
        const truth = truths[query.where];
        if (truth === undefined) continue;
        unknown.delete(query.where);
        if ('of' in truth) wrong.push(...(await this.complaints(query, truth, service)));
      }
      this.t.same(wrong, [], `every query of the ${service}'s sidecar: ${this.kind}`);
      active.push(...activeAlerts(facts));
    }
    this.t.same([...unknown], [], 'of every query it is said what is true');
    await this.holdAlerts(active.sort());
  }

  private async complaints(
    query: WrittenQuery,
    truth: Parameters<typeof falseValues>[0],
    service: (typeof SERVICES)[number],
  ): Promise<string[]> {
    const [atS, sinceS] =
      truth.per === 'held'
        ? [this.middle![service], this.middle![service]]
        : [this.end![service], this.begin![service]];
    const answer = await answerAt(this.prometheus, query, { service, atS, sinceS });
    return falseValues(truth, answer, atS - sinceS).map((said) => `${query.where} ${said}`);
  }

  /** Pending or firing, with the shipped windows and waits. */
  private async holdAlerts(expected: readonly string[]): Promise<void> {
    const look = async (): Promise<string[]> => {
      const { alerts } = (await this.prometheus.get('alerts')) as {
        alerts: { labels: Record<string, string> }[];
      };
      return alerts
        .map(({ labels: { alertname, severity, ...labels } }) => `${alertname} {${keyOf(labels)}}`)
        .sort();
    };
    await waitUntil('the rules have seen the end', async () => {
      const active = await look();
      return active.join() === expected.join();
    }).catch(() => {});
    this.t.same(await look(), expected, `alerts: ${this.kind}`);
    const { alerts } = (await this.prometheus.get('alerts')) as {
      alerts: { annotations: { summary: string } }[];
    };
    for (const { annotations } of alerts)
      this.t.notMatch(annotations.summary, / {2}|<|: *$/, 'it names all that it is of');
  }
}

function named(prefix: string, truths: Truths): Truths {
  return Object.fromEntries(Object.entries(truths).map(([where, truth]) => [prefix + where, truth]));
}
