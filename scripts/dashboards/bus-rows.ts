/** The rows of the bus and of the journal, on the dashboard of tasks. */
import type { Row } from './panel.ts';

const RATE = '[$__rate_interval]';
const S = 'service=~"$service"';

export const busRows: readonly Row[] = [
  {
    title: 'Bus',
    panels: [
      {
        title: 'Tasks that wait',
        description:
          'Tasks on the bus that no agent has taken yet. If they grow, add replicas or places; if nothing takes them, check consume.agent_types.',
        kind: 'timeseries',
        unit: 'short',
        width: 8,
        queries: [
          {
            expr: `max by (agent_type) (outrigger_bus_queued{${S}})`,
            legend: '{{agent_type}} waiting',
          },
          {
            expr: `max by (agent_type) (outrigger_bus_running{${S}})`,
            legend: '{{agent_type}} running',
          },
        ],
      },
      {
        title: 'The oldest waits for',
        description: 'How long the oldest task of each type has waited.',
        kind: 'timeseries',
        unit: 's',
        width: 8,
        queries: [
          { expr: `max by (agent_type) (outrigger_bus_oldest_seconds{${S}})`, legend: '{{agent_type}}' },
        ],
      },
      {
        title: 'Tasks of the bus by outcome',
        description:
          'lost: the run ended with its sidecar, and the task runs again. given_back: an agent that drains handed it back. dead: it was given up; see outrigger bus dead list.',
        kind: 'timeseries',
        unit: 'cps',
        width: 8,
        stack: true,
        queries: [
          {
            expr: `sum by (agent_type, outcome) (rate(outrigger_bus_tasks_total{${S}}${RATE}))`,
            legend: '{{agent_type}} {{outcome}}',
          },
        ],
      },
      {
        title: 'Dead letters',
        description:
          'Tasks that were given up and are kept, by type. outrigger bus dead retry submits one again.',
        kind: 'stat',
        unit: 'short',
        width: 12,
        thresholds: [[1, 'red']],
        queries: [{ expr: `max by (agent_type) (outrigger_bus_dead{${S}})`, legend: '{{agent_type}}' }],
      },
      {
        title: 'Reached',
        description:
          'Whether each sidecar reaches the bus. While it does not, new tasks get bus_unavailable.',
        kind: 'state-timeline',
        unit: 'none',
        width: 12,
        mappings: { '0': { text: 'no', color: 'red' }, '1': { text: 'yes', color: 'green' } },
        queries: [{ expr: `min by (service) (outrigger_bus_connected{${S}})`, legend: '{{service}}' }],
      },
    ],
  },
  {
    title: 'Journal',
    panels: [
      {
        title: 'Answers by outcome',
        description:
          'stored: kept for the next run. replayed: a later run got it back, and nothing was paid. missed: a later run asked something else. unstored and late: see the store.',
        kind: 'timeseries',
        unit: 'reqps',
        width: 16,
        stack: true,
        queries: [
          {
            expr: `sum by (outcome) (rate(outrigger_journal_total{${S}}${RATE}))`,
            legend: '{{outcome}}',
          },
        ],
      },
      {
        title: 'Hit rate',
        description:
          'Of the requests of later runs, the share that got an answer of an earlier one. A low one: times or random ids in prompts; the admin page says where.',
        kind: 'stat',
        unit: 'percentunit',
        width: 8,
        queries: [
          {
            expr: `sum(increase(outrigger_journal_total{${S},outcome="replayed"}[$__range])) / clamp_min(sum(increase(outrigger_journal_total{${S},outcome=~"replayed|missed"}[$__range])), 1)`,
            legend: 'replayed',
          },
        ],
      },
    ],
  },
];
