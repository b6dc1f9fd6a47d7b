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
          'open: calls are refused at once, because nearly all failed. It tries again by itself (half-open). Look at the attempts of the cluster, then at the agent behind it.',
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
        title: 'Calls that circuits turned away',
        description:
          'What the callers of an open circuit get: UNAVAILABLE with outrigger-reason circuit_open.',
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
        description: 'Now, by reason. /clusters on the admin port names each with its state and why.',
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
          'In the window. The same endpoint again and again: it recovers only while it gets no calls.',
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
        title: 'Connections that were not made',
        description:
          'By reason. refused and timeout: nobody is there. A reason of TLS: certificates do not fit each other; the log of the sidecar has the sentence.',
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
        description: 'The last calls with an error somewhere on their way, from Tempo.',
        kind: 'traces',
        width: 24,
        traceql: '{ resource.service.name =~ "$service" && status = error }',
      },
    ],
  },
];
