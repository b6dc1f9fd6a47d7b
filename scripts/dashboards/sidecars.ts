/** The dashboard rows about the sidecars' processes. */
import type { Row } from './panel.ts';

const RATE = '[$__rate_interval]';
const S = 'service=~"$service"';

/** The sidecars' own processes. */
export const sidecarRows: readonly Row[] = [
  {
    title: 'The sidecars themselves',
    panels: [
      {
        title: 'Event loop',
        description:
          'The busy share of the thread that relays calls. Above 0.8 calls begin to wait: add replicas.',
        kind: 'timeseries',
        unit: 'percentunit',
        width: 6,
        queries: [
          {
            expr: `rate(nodejs_eventloop_active_seconds_total{${S}}${RATE}) / (rate(nodejs_eventloop_active_seconds_total{${S}}${RATE}) + rate(nodejs_eventloop_idle_seconds_total{${S}}${RATE}))`,
            legend: '{{service}} {{instance}}',
          },
        ],
      },
      {
        title: 'CPU',
        description: 'Cores in use.',
        kind: 'timeseries',
        unit: 'none',
        width: 6,
        queries: [
          { expr: `rate(process_cpu_seconds_total{${S}}${RATE})`, legend: '{{service}} {{instance}}' },
        ],
      },
      {
        title: 'Memory',
        description: 'Resident memory. A line that only rises over hours is a defect: please report it.',
        kind: 'timeseries',
        unit: 'bytes',
        width: 6,
        queries: [
          { expr: `process_resident_memory_bytes{${S}}`, legend: '{{service}} {{instance}}' },
          { expr: `nodejs_heap_size_used_bytes{${S}}`, legend: '{{service}} {{instance}} heap' },
        ],
      },
      {
        title: 'Spans',
        description:
          'exported: the collector accepted them. dropped, failed, rejected: the collector is down, slow or refuses them; calls are not affected.',
        kind: 'timeseries',
        unit: 'cps',
        width: 6,
        queries: [
          {
            expr: `sum by (service, outcome) (rate(outrigger_spans_total{${S}}${RATE}))`,
            legend: '{{service}} {{outcome}}',
          },
          { expr: `sum by (service) (outrigger_spans_waiting{${S}})`, legend: '{{service}} waiting' },
        ],
      },
      {
        title: 'Versions',
        description: 'The version of each sidecar.',
        kind: 'table',
        unit: 'none',
        width: 24,
        queries: [{ expr: `sum by (service, version) (outrigger_build_info{${S}})`, legend: '' }],
      },
    ],
  },
];
