/** The dashboard of calls and connections. */
import { quantileOf, rateOf } from './histograms.ts';
import type { Dashboard } from './panel.ts';
import { resilienceRows } from './resilience.ts';
import { sidecarRows } from './sidecars.ts';

/** The statuses that mean an error of the service, not of its caller. */
const ERRORS = 'UNAVAILABLE|INTERNAL|UNKNOWN|DATA_LOSS|DEADLINE_EXCEEDED';
const RATE = '[$__rate_interval]';
const S = 'service=~"$service"';

const errorShare = (metric: string, by: string): string => {
  const all = rateOf(metric, S, by);
  return `(${rateOf(metric, `${S},rpc_status_code=~"${ERRORS}"`, by)} or 0 * ${all}) / ${all}`;
};

const SERVER = 'rpc_server_call_duration_seconds';
const CLIENT = 'rpc_client_call_duration_seconds';

export const trafficDashboard: Dashboard = {
  uid: 'outrigger-traffic',
  title: 'Outrigger: traffic and resilience',
  description: 'The results of calls, the actions of the sidecars, and the state of the sidecars.',
  rows: [
    {
      title: 'Now',
      panels: [
        {
          title: 'Ready sidecars',
          description:
            'A sidecar is not ready while its app does not answer health checks, and while it drains.',
          kind: 'stat',
          unit: 'short',
          width: 4,
          queries: [{ expr: `sum(outrigger_ready{${S}})`, legend: 'ready' }],
        },
        {
          title: 'Not ready or down',
          description:
            'If it stays above 0 for minutes, check the pod, and /ready on its admin port for the reason.',
          kind: 'stat',
          unit: 'short',
          width: 4,
          thresholds: [[1, 'red']],
          queries: [
            {
              expr: `(count(outrigger_ready{${S}} == 0) or vector(0)) + (count(up{job="outrigger",${S}} == 0) or vector(0))`,
              legend: 'not ready',
            },
          ],
        },
        {
          title: 'Calls a second',
          description: 'Calls that arrived for the agents, with any outcome.',
          kind: 'stat',
          unit: 'reqps',
          width: 4,
          queries: [{ expr: rateOf(SERVER, S, ''), legend: 'calls' }],
        },
        {
          title: 'Errors',
          description: `The share of these that ended with ${ERRORS.replaceAll('|', ', ')}.`,
          kind: 'stat',
          unit: 'percentunit',
          width: 4,
          thresholds: [
            [0.01, 'orange'],
            [0.05, 'red'],
          ],
          queries: [{ expr: errorShare(SERVER, ''), legend: 'errors' }],
        },
        {
          title: 'Circuits not closed',
          description:
            'Pairs of cluster and method whose circuit is open or half-open. See "Circuits" below.',
          kind: 'stat',
          unit: 'short',
          width: 4,
          thresholds: [[1, 'red']],
          queries: [{ expr: `count(outrigger_circuit_state{${S}} > 0) or vector(0)`, legend: 'circuits' }],
        },
        {
          title: 'Endpoints ejected',
          description:
            'Replicas that get no calls because they fail or are slow. See "Ejected endpoints" below.',
          kind: 'stat',
          unit: 'short',
          width: 4,
          thresholds: [[1, 'orange']],
          queries: [{ expr: `sum(outrigger_endpoints_ejected{${S}})`, legend: 'endpoints' }],
        },
      ],
    },
    {
      title: 'Calls to agents (inbound)',
      panels: [
        {
          title: 'Calls by status',
          description:
            'UNAVAILABLE and INTERNAL: the agent fails. DEADLINE_EXCEEDED: it is too slow for its callers. RESOURCE_EXHAUSTED: the sidecar sheds load, or the model throttles. CANCELLED: callers disconnect.',
          kind: 'timeseries',
          unit: 'reqps',
          width: 8,
          stack: true,
          queries: [
            {
              expr: rateOf(SERVER, S, ' by (service, rpc_status_code)'),
              legend: '{{service}} {{rpc_status_code}}',
            },
          ],
        },
        {
          title: 'Duration',
          description: 'As callers saw it. Each dot is a traced call: click it to see its trace in Tempo.',
          kind: 'timeseries',
          unit: 's',
          width: 8,
          queries: [0.5, 0.95, 0.99].map((q) => ({
            expr: quantileOf(q, SERVER, S, 'service'),
            legend: `{{service}} p${q * 100}`,
            exemplars: true,
          })),
        },
        {
          title: 'Error share',
          description: 'By service and method. The burn-rate alerts watch it: their objective is 1 %.',
          kind: 'timeseries',
          unit: 'percentunit',
          width: 8,
          queries: [
            { expr: errorShare(SERVER, ' by (service, rpc_method)'), legend: '{{service}} {{rpc_method}}' },
          ],
        },
        {
          title: 'Active calls',
          description:
            'In flight, by listener. A line that only rises shows calls that never end; check their age in traces.',
          kind: 'timeseries',
          unit: 'short',
          width: 8,
          queries: [
            {
              expr: `sum by (service, listener) (outrigger_active_calls{${S},listener!=""})`,
              legend: '{{service}} {{listener}}',
            },
            {
              expr: `sum by (service, listener) (outrigger_queued_calls{${S}})`,
              legend: '{{service}} {{listener}} waiting',
            },
            {
              expr: `sum by (service, listener) (outrigger_concurrency_limit{${S}})`,
              legend: '{{service}} {{listener}} limit',
            },
          ],
        },
        {
          title: 'Active connections',
          description: 'From callers, by listener; and to endpoints, by cluster.',
          kind: 'timeseries',
          unit: 'short',
          width: 8,
          queries: [
            {
              expr: `sum by (service, listener, cluster) (outrigger_active_connections{${S}})`,
              legend: '{{service}} {{listener}}{{cluster}}',
            },
          ],
        },
        {
          title: 'Answered by the sidecar itself',
          description:
            'Calls and connections that the sidecar ended, by outrigger-reason. overloaded: raise the limit or add replicas. no_route: a client calls an authority that is not configured. circuit_open and no_endpoint: see the rows below.',
          kind: 'timeseries',
          unit: 'reqps',
          width: 8,
          stack: true,
          queries: [
            {
              expr: `sum by (service, listener, reason) (rate(outrigger_rejected_total{${S}}${RATE})) > 0`,
              legend: '{{service}} {{listener}} {{reason}}',
            },
          ],
        },
      ],
    },
    {
      title: 'Calls from agents (outbound)',
      panels: [
        {
          title: 'Calls by cluster and status',
          description: 'Logical calls: the result for the agent after all attempts.',
          kind: 'timeseries',
          unit: 'reqps',
          width: 8,
          stack: true,
          queries: [
            {
              expr: rateOf(CLIENT, S, ' by (service, cluster, rpc_status_code)'),
              legend: '{{service}} → {{cluster}} {{rpc_status_code}}',
            },
          ],
        },
        {
          title: 'Duration by cluster',
          description: 'With all attempts and back-offs. The dots lead to traces.',
          kind: 'timeseries',
          unit: 's',
          width: 8,
          queries: [0.5, 0.95].map((q) => ({
            expr: quantileOf(q, CLIENT, S, 'service, cluster'),
            legend: `{{service}} → {{cluster}} p${q * 100}`,
            exemplars: true,
          })),
        },
        {
          title: 'Error share by cluster',
          description: 'The failures that remain after retries and ejection.',
          kind: 'timeseries',
          unit: 'percentunit',
          width: 8,
          queries: [
            { expr: errorShare(CLIENT, ' by (service, cluster)'), legend: '{{service}} → {{cluster}}' },
          ],
        },
        {
          title: 'Attempts by endpoint and status',
          description: 'If one endpoint fails, it is a bad replica. If all fail, it is the service.',
          kind: 'timeseries',
          unit: 'reqps',
          width: 8,
          stack: true,
          queries: [
            {
              expr: `sum by (cluster, endpoint, code) (rate(outrigger_attempts_total{${S},cluster!="app"}${RATE}))`,
              legend: '{{cluster}} {{endpoint}} {{code}}',
            },
          ],
        },
        {
          title: 'Attempts a call',
          description: '1 is a call without a retry. The retry budget keeps it near 1.2 however much fails.',
          kind: 'timeseries',
          unit: 'none',
          width: 8,
          queries: [
            {
              expr: `sum by (service, cluster) (rate(outrigger_attempts_total{${S},cluster!="app"}${RATE})) / ${rateOf(CLIENT, S, ' by (service, cluster)')}`,
              legend: '{{service}} → {{cluster}}',
            },
          ],
        },
        {
          title: 'Retries and hedges by outcome',
          description:
            'retried: another attempt. success: the retry succeeded. budget_exhausted: too many calls fail for retries to help. not_safe: the call may have run. deadline: no time was left. hedge won: the hedge answered before a slow attempt.',
          kind: 'timeseries',
          unit: 'cps',
          width: 8,
          queries: [
            {
              expr: `sum by (service, cluster, outcome) (rate(outrigger_retries_total{${S}}${RATE}))`,
              legend: '{{service}} → {{cluster}} {{outcome}}',
            },
            {
              expr: `sum by (service, cluster, outcome) (rate(outrigger_hedges_total{${S}}${RATE})) > 0`,
              legend: '{{service}} → {{cluster}} hedge {{outcome}}',
            },
          ],
        },
      ],
    },
    ...resilienceRows,
    ...sidecarRows,
  ],
};
