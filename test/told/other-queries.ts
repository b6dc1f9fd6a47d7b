// What is true of the shipped rules, of the queries that lead from a trace to numbers, and of those that agents are scaled by.
import { isError } from './ledger.ts';
import { quantileOf } from './quantile.ts';
import { type Facts, groups, keyOf, shareOf, size, type Truths } from './query-truth.ts';
import { OPEN } from './series.ts';
import { isUseless, wastedShare } from './tasks-board.ts';

/** Calls that were shed and tasks that failed are some before anybody is told: as `rules.yaml` has it. */
const MOST_SHED = 4;
const SILENT = [
  'EjectionsRepeated',
  'RetryBudgetExhausted',
  'NoAnswers',
  'AnswersSlow',
  'ModelRefused',
  'CertificateExpired',
  'CertificateExpires',
  'ModelCircuitOpen',
  'Down',
  'NotReady',
  'EventLoopBusy',
  'SpansDropped',
  'WebhookCertificateExpires',
  'DeadLetters',
  'BusUnavailable',
  'TasksWait',
];

/** They are asked of the agent. */
export function linkTruths({ service, ledger, kind, endpoints }: Facts): Truths {
  if (service !== 'research') return {};
  const { served } = ledger;
  const buckets = kind === 'native' ? 'native' : 'calls';
  const atApp = served.filter((call) => call.atApp !== undefined);
  return {
    'data source: Calls by status': {
      per: 'second',
      of: groups(served, ({ code }) => ({ rpc_status_code: code }), size),
    },
    'data source: Duration, 95th percentile': {
      per: 'end',
      of: groups(
        served,
        () => ({}),
        (group) => quantileOf(0.95, group, buckets),
      ),
    },
    'data source: Attempts by endpoint and status': {
      per: 'second',
      of: groups(atApp, ({ code }) => ({ cluster: 'app', endpoint: endpoints['app']![0]!, code }), size),
    },
  };
}

export function autoscalingTruths({ service, ledger, kind, held }: Facts): Truths {
  const pod = keyOf({ pod: `${service}-0` });
  const named = { why: 'it finds the series; the query beside it is compared' };
  const waiting = service === 'research' ? held : 0;
  const latency = groups(
    ledger.served,
    () => ({ pod: `${service}-0` }),
    (group) => quantileOf(0.99, group, 'calls'),
  );
  return {
    'autoscaling outrigger_inbound_queued_calls: series': named,
    'autoscaling outrigger_inbound_active_calls: series': named,
    'autoscaling outrigger_inbound_latency_p99_seconds: series': named,
    'autoscaling outrigger_inbound_queued_calls': { per: 'held', of: {} },
    'autoscaling outrigger_inbound_active_calls': { per: 'held', of: { [pod]: waiting } },
    // The Prometheus adapter needs classic histograms: docs/observability.md says so.
    'autoscaling outrigger_inbound_latency_p99_seconds': { per: 'end', of: kind === 'native' ? {} : latency },
  };
}

/** Each window is the second round. */
export function ruleTruths({ service, ledger }: Facts): Truths {
  const { served, tasks, models, rejected, opened, ejected } = ledger;
  const namespace = 'agents';
  const errors = groups(served, () => ({ namespace, service }), shareOf(isError));
  const shed = rejected.filter((one) => one.service === service && one.reason === 'overloaded').length;
  const asked = groups(
    models,
    ({ upstream }) => ({ namespace, service, upstream }),
    shareOf(({ outcome }) => outcome === 'throttled'),
  );
  const windows = ['5m', '30m', '1h', '6h'];
  const above = (values: typeof errors, limit: number) =>
    Object.fromEntries(Object.entries(values).filter(([, value]) => Number(value) > limit));
  return {
    ...Object.fromEntries(
      windows.map((window) => [
        `record outrigger:server_errors:ratio_rate${window}`,
        { per: 'end', of: errors } as const,
      ]),
    ),
    ...Object.fromEntries(
      SILENT.map((name) => [`alert Outrigger${name}`, { per: 'alert', of: {} } as const]),
    ),
    // They go by what was recorded over both rounds: a little less or more than the share of one.
    ...Object.fromEntries(
      [['Fast', 0.144] as const, ['Slowly', 0.06] as const].map(([name, limit]) => [
        `alert OutriggerErrorBudgetBurns${name}`,
        {
          per: 'alert',
          of: Object.fromEntries(Object.keys(above(errors, limit)).map((key) => [key, [limit, 1]])),
        } as const,
      ]),
    ),
    'alert OutriggerCircuitOpen': {
      per: 'alert',
      of: groups(
        opened,
        ({ cluster, method }) => ({ namespace, service, cluster, method: method.slice(1) }),
        () => OPEN,
      ),
    },
    'alert OutriggerEndpointsEjected': {
      per: 'alert',
      of: groups(ejected, ({ cluster, reason }) => ({ namespace, service, cluster, reason }), size),
    },
    'alert OutriggerOverloaded': {
      per: 'alert',
      of: shed > MOST_SHED ? { [keyOf({ namespace, service, listener: 'inbound' })]: shed } : {},
    },
    'alert OutriggerTasksFail': {
      per: 'alert',
      of: groups(tasks, () => ({ namespace, agent: service }), shareOf(isUseless)),
    },
    'alert OutriggerTokensWasted': {
      per: 'alert',
      of: groups(tasks, () => ({ namespace, agent: service }), wastedShare),
    },
    'alert OutriggerModelThrottled': { per: 'alert', of: above(asked, 0.05) },
  };
}

/** Which alerts are pending or firing after the mix, each with its labels. */
export function activeAlerts(facts: Facts): string[] {
  return Object.entries(ruleTruths(facts)).flatMap(([where, truth]) =>
    where.startsWith('alert ') && 'of' in truth
      ? Object.keys(truth.of).map((key) => `${where.slice(6)} {${key}}`)
      : [],
  );
}
