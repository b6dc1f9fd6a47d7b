/** The dashboard rows about circuits, ejections and failures. */
import { CIRCUIT_STATES, type Row } from './panel.ts';

const RATE = '[$__rate_interval]';
const S = 'service=~"$service"';

/** Circuits, ejections, and traces of failed calls. */
export const resilienceRows: readonly Row[] = [
  {
    title: 'Circuits and ejections',
    panels: [
      {
        title: 'Circuits',
        description:
          'open: the sidecar refuses calls at once, because nearly all failed. It probes the cluster by itself (half-open). Check the attempts of the cluster, then its agent.',
        kind: 'state-timeline',
        unit: 'none',
        width: 12,
        mappings: CIRCUIT_STATES,
        queries: [
          {
            expr: `max by (service, cluster, method) (outrigger_circuit_state{${S}})`,
            legend: '{{service}} → {{cluster}} {{method}}',
          },
        ],
      },
      {
        title: 'Calls that circuits refused',
        description: 'Callers of an open circuit get UNAVAILABLE with outrigger-reason circuit_open.',
        kind: 'timeseries',
        unit: 'reqps',
        width: 12,
        stack: true,
        queries: [
          {
            expr: `sum by (service, cluster, method) (rate(outrigger_circuit_rejections_total{${S}}${RATE}))`,
            legend: '{{service}} → {{cluster}} {{method}}',
          },
        ],
      },
      {
        title: 'Ejected endpoints',
        description:
          'The endpoints that are ejected now, by reason. /clusters on the admin port lists each with its state and the cause.',
        kind: 'timeseries',
        unit: 'short',
        width: 12,
        stack: true,
        queries: [
          {
            expr: `sum by (service, cluster, reason) (outrigger_endpoints_ejected{${S}})`,
            legend: '{{service}} → {{cluster}} {{reason}}',
          },
        ],
      },
      {
        title: 'Ejections',
        description:
          'Ejections in the window. If one endpoint is ejected repeatedly, it recovers only while it gets no calls.',
        kind: 'timeseries',
        unit: 'short',
        width: 12,
        stack: true,
        queries: [
          {
            expr: `sum by (service, cluster, reason) (increase(outrigger_ejections_total{${S}}${RATE}))`,
            legend: '{{service}} → {{cluster}} {{reason}}',
          },
        ],
      },
      {
        title: 'Failed connection attempts',
        description:
          "By reason. refused and timeout: no process listens there. A TLS reason: the certificates do not match; the sidecar's log has the details.",
        kind: 'timeseries',
        unit: 'cps',
        width: 24,
        stack: true,
        queries: [
          {
            expr: `sum by (service, cluster, reason) (rate(outrigger_connect_failures_total{${S}}${RATE}))`,
            legend: '{{service}} → {{cluster}} {{reason}}',
          },
        ],
      },
      {
        title: 'Traces that failed',
        description: 'The last calls with an error at any hop, from Tempo.',
        kind: 'traces',
        width: 24,
        traceql: '{ resource.service.name =~ "$service" && status = error }',
      },
    ],
  },
];
