/** The dashboard of tasks. */
import { busRows } from './bus-rows.ts';
import { quantileOf, rateOf } from './histograms.ts';
import { CIRCUIT_STATES, type Dashboard } from './panel.ts';
import { toolRows } from './tool-rows.ts';

const RATE = '[$__rate_interval]';
const S = 'service=~"$service"';
const METHOD = 'rpc_method=~"agent.AgentService/(ProcessTask|StreamProcess)"';

export const tasksDashboard: Dashboard = {
  uid: 'outrigger-tasks',
  title: 'Outrigger: tasks and tokens',
  description: 'The outcome, duration and cost of tasks.',
  rows: [
    {
      title: 'In the selected time range',
      panels: [
        {
          title: 'Tasks',
          description: 'Tasks that ended, with any outcome.',
          kind: 'stat',
          unit: 'short',
          width: 6,
          queries: [{ expr: `sum(increase(outrigger_tasks_total{${S}}[$__range]))`, legend: 'tasks' }],
        },
        {
          title: 'Without a usable answer',
          description: 'The share of tasks that ended as FAILED or TIMEOUT, or whose call failed (ERROR).',
          kind: 'stat',
          unit: 'percentunit',
          width: 6,
          thresholds: [
            [0.02, 'orange'],
            [0.1, 'red'],
          ],
          queries: [
            {
              expr: `sum(increase(outrigger_tasks_total{${S},status=~"FAILED|TIMEOUT|ERROR"}[$__range])) / sum(increase(outrigger_tasks_total{${S}}[$__range]))`,
              legend: 'failed',
            },
          ],
        },
        {
          title: 'Tokens',
          description: 'As the agents state them in their answers (tokens_used).',
          kind: 'stat',
          unit: 'short',
          width: 6,
          queries: [{ expr: `sum(increase(outrigger_tokens_total{${S}}[$__range]))`, legend: 'tokens' }],
        },
        {
          title: 'Wasted tokens',
          description:
            'The share of tokens of answers that no caller received, or whose status is FAILED or TIMEOUT.',
          kind: 'stat',
          unit: 'percentunit',
          width: 6,
          thresholds: [
            [0.05, 'orange'],
            [0.2, 'red'],
          ],
          queries: [
            {
              expr: `sum(increase(outrigger_tokens_total{${S},use="wasted"}[$__range])) / sum(increase(outrigger_tokens_total{${S}}[$__range]))`,
              legend: 'wasted',
            },
          ],
        },
      ],
    },
    {
      title: 'Tasks',
      panels: [
        {
          title: 'Tasks by agent and status',
          description:
            "ERROR: the call failed, so there is no answer; see its status on the traffic dashboard. FAILED and TIMEOUT: the agent's own status. PARTIAL: an incomplete answer.",
          kind: 'timeseries',
          unit: 'cps',
          width: 8,
          stack: true,
          queries: [
            {
              expr: `sum by (agent, status) (rate(outrigger_tasks_total{${S}}${RATE}))`,
              legend: '{{agent}} {{status}}',
            },
          ],
        },
        {
          title: 'Share without a usable answer',
          description: 'If one agent rises, check it and its model. If all rise, check what they share.',
          kind: 'timeseries',
          unit: 'percentunit',
          width: 8,
          queries: [
            {
              expr: `sum by (agent) (rate(outrigger_tasks_total{${S},status=~"FAILED|TIMEOUT|ERROR"}${RATE})) / sum by (agent) (rate(outrigger_tasks_total{${S}}${RATE}))`,
              legend: '{{agent}}',
            },
          ],
        },
        {
          title: 'Duration',
          description: 'Of ProcessTask and StreamProcess, as callers saw it. The dots lead to traces.',
          kind: 'timeseries',
          unit: 's',
          width: 8,
          queries: [0.5, 0.95].map((q) => ({
            expr: quantileOf(q, 'rpc_server_call_duration_seconds', `${S},${METHOD}`, 'service, rpc_method'),
            legend: `{{service}} {{rpc_method}} p${q * 100}`,
            exemplars: true,
          })),
        },
        {
          title: 'Calls of tasks by status',
          description: 'The gRPC statuses of the same calls, including streams, which carry no task status.',
          kind: 'timeseries',
          unit: 'reqps',
          width: 12,
          stack: true,
          queries: [
            {
              expr: rateOf(
                'rpc_server_call_duration_seconds',
                `${S},${METHOD}`,
                ' by (service, rpc_method, rpc_status_code)',
              ),
              legend: '{{service}} {{rpc_method}} {{rpc_status_code}}',
            },
          ],
        },
        {
          title: 'Tasks that arrived again',
          description:
            'joined and replayed avoid a second run. refused: the sidecar no longer has the answer; raise inbound.tasks.max_bytes.',
          kind: 'timeseries',
          unit: 'cps',
          width: 12,
          stack: true,
          queries: [
            {
              expr: `sum by (service, outcome) (rate(outrigger_tasks_deduplicated_total{${S}}${RATE}))`,
              legend: '{{service}} {{outcome}}',
            },
          ],
        },
        {
          title: 'Tasks that failed',
          description: 'The last failed tasks, from Tempo.',
          kind: 'traces',
          width: 24,
          traceql:
            '{ resource.service.name =~ "$service" && span.gen_ai.operation.name = "invoke_agent" && status = error }',
        },
      ],
    },
    {
      title: 'Tokens',
      panels: [
        {
          title: 'Tokens a second by use',
          description:
            'useful: the caller got the answer. wasted: the caller had disconnected, its deadline had expired, or the task failed. Waste that rises with deadlines: give the tasks more time, or the agents less to do.',
          kind: 'timeseries',
          unit: 'cps',
          width: 8,
          stack: true,
          queries: [
            {
              expr: `sum by (agent, use) (rate(outrigger_tokens_total{${S}}${RATE}))`,
              legend: '{{agent}} {{use}}',
            },
          ],
        },
        {
          title: 'Wasted share by agent',
          description: 'The wasted share of the tokens that an agent used.',
          kind: 'timeseries',
          unit: 'percentunit',
          width: 8,
          queries: [
            {
              expr: `sum by (agent) (rate(outrigger_tokens_total{${S},use="wasted"}${RATE})) / sum by (agent) (rate(outrigger_tokens_total{${S}}${RATE}))`,
              legend: '{{agent}}',
            },
          ],
        },
        {
          title: 'Tokens a task',
          description:
            'A step up after a deployment means that the agent, its instructions or its model has changed.',
          kind: 'timeseries',
          unit: 'short',
          width: 8,
          queries: [
            {
              expr: `sum by (agent) (rate(outrigger_tokens_total{${S}}${RATE})) / sum by (agent) (rate(outrigger_tasks_total{${S}}${RATE}))`,
              legend: '{{agent}}',
            },
          ],
        },
        {
          title: 'Tokens by agent and use',
          description: 'In the selected time range.',
          kind: 'bargauge',
          unit: 'short',
          width: 24,
          queries: [
            {
              expr: `sum by (agent, use) (increase(outrigger_tokens_total{${S}}[$__range]))`,
              legend: '{{agent}} {{use}}',
            },
          ],
        },
      ],
    },
    ...busRows,
    ...toolRows,
    {
      title: 'Model',
      panels: [
        {
          title: 'Requests to providers by outcome',
          description:
            'throttled: the quota is the bottleneck, not the pods. failed and cut: the provider failed; the sidecar uses the next upstream if there is one.',
          kind: 'timeseries',
          unit: 'reqps',
          width: 8,
          stack: true,
          queries: [
            {
              expr: `sum by (upstream, model, outcome) (rate(outrigger_llm_requests_total{${S}}${RATE}))`,
              legend: '{{upstream}} {{model}} {{outcome}}',
            },
          ],
        },
        {
          title: 'Tokens by provider, model and type',
          description: "The provider's count. wasted: tokens of answers that no caller received completely.",
          kind: 'timeseries',
          unit: 'cps',
          width: 8,
          stack: true,
          queries: [
            {
              expr: `sum by (upstream, model, type) (rate(outrigger_llm_tokens_total{${S}}${RATE}))`,
              legend: '{{upstream}} {{model}} {{type}}',
            },
          ],
        },
        {
          title: 'Cost by provider and model',
          description: 'In USD an hour, by the list of prices. Models without a price are not in it.',
          kind: 'timeseries',
          unit: 'currencyUSD',
          width: 8,
          stack: true,
          queries: [
            {
              expr: `3600 * sum by (upstream, model) (rate(outrigger_llm_cost_usd_total{${S}}${RATE}))`,
              legend: '{{upstream}} {{model}}',
            },
          ],
        },
        {
          title: 'Duration of requests',
          description: 'With all attempts and waits; and the time to the first token of an attempt.',
          kind: 'timeseries',
          unit: 's',
          width: 8,
          queries: [
            {
              expr: quantileOf(0.95, 'outrigger_llm_request_duration_seconds', S, 'upstream, model'),
              legend: '{{upstream}} {{model}} p95',
            },
            {
              expr: quantileOf(0.95, 'outrigger_llm_time_to_first_token_seconds', S, 'upstream, model'),
              legend: '{{upstream}} {{model}} first token p95',
            },
          ],
        },
        {
          title: 'Attempts and retries',
          description: 'Attempts at providers by outcome, and retries.',
          kind: 'timeseries',
          unit: 'reqps',
          width: 8,
          queries: [
            {
              expr: `sum by (upstream, outcome) (rate(outrigger_llm_attempts_total{${S}}${RATE}))`,
              legend: '{{upstream}} {{outcome}}',
            },
            {
              expr: `sum by (upstream) (rate(outrigger_llm_retries_total{${S}}${RATE}))`,
              legend: '{{upstream}} retries',
            },
          ],
        },
        {
          title: 'Circuits of providers',
          description:
            'open: the sidecar sends no requests there, and uses the next upstream if there is one.',
          kind: 'state-timeline',
          unit: 'none',
          width: 8,
          mappings: CIRCUIT_STATES,
          queries: [
            {
              expr: `max by (service, upstream) (outrigger_llm_circuit_state{${S}})`,
              legend: '{{service}} → {{upstream}}',
            },
          ],
        },
        {
          title: 'Waiting for quota',
          description:
            "Requests that wait for a limit per minute or for the end of a provider's cooldown, and the cooldown's length after a 429. Raise the quota, or spread over providers.",
          kind: 'timeseries',
          unit: 'short',
          width: 8,
          queries: [
            {
              expr: `sum by (service) (outrigger_llm_waiting_requests{${S}})`,
              legend: '{{service}} waiting',
            },
            {
              expr: `max by (upstream) (outrigger_llm_cooldown_seconds{${S}})`,
              legend: '{{upstream}} cooldown s',
            },
          ],
        },
      ],
    },
  ],
};
