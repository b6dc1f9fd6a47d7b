/** The row of tool servers (MCP), on the dashboard of tasks. */
import { quantileOf } from './histograms.ts';
import type { Row } from './panel.ts';

const RATE = '[$__rate_interval]';
const S = 'service=~"$service"';

export const toolRows: readonly Row[] = [
  {
    title: 'Tool servers',
    panels: [
      {
        title: 'Calls by tool and outcome',
        description:
          'tool_error: the tool says that it failed. error: the server refused the call. failed, timeout: nothing came of it.',
        kind: 'timeseries',
        unit: 'cps',
        width: 12,
        stack: true,
        queries: [
          {
            expr: `sum by (server, tool, outcome) (rate(outrigger_tool_runs_total{${S}}${RATE}))`,
            legend: '{{server}} {{tool}} {{outcome}}',
          },
        ],
      },
      {
        title: 'Duration of requests, p95',
        description: 'By server and method; tools/call is the time that tools take.',
        kind: 'timeseries',
        unit: 's',
        width: 12,
        queries: [
          {
            expr: quantileOf(0.95, 'outrigger_mcp_request_duration_seconds', S, 'server, method'),
            legend: '{{server}} {{method}}',
          },
        ],
      },
      {
        title: 'Unknown outcomes',
        description:
          'Calls that were sent, and whose answer never came: their effect may have happened. Somebody should check.',
        kind: 'stat',
        unit: 'short',
        width: 6,
        queries: [
          {
            expr: `sum by (server) (increase(outrigger_tool_runs_total{${S},outcome="unknown"}[$__range]))`,
            legend: '{{server}}',
          },
        ],
      },
      {
        title: 'Refused calls',
        description:
          'refused: mcp.servers.NAME.tools does not list the tool. over_budget: the task has made all calls that it may make.',
        kind: 'timeseries',
        unit: 'cps',
        width: 6,
        queries: [
          {
            expr: `sum by (server, outcome) (rate(outrigger_tool_runs_total{${S},outcome=~"refused|over_budget"}${RATE}))`,
            legend: '{{server}} {{outcome}}',
          },
        ],
      },
      {
        title: 'Requests sent again',
        description: 'What was not sent, and what may run twice. A server, or the way to it, fails.',
        kind: 'timeseries',
        unit: 'cps',
        width: 6,
        queries: [
          {
            expr: `sum by (server) (rate(outrigger_mcp_retries_total{${S}}${RATE}))`,
            legend: '{{server}}',
          },
        ],
      },
      {
        title: 'Circuits and streams',
        description: 'Circuit: 0 closed, 1 half-open, 2 open; above 0 its tools are turned away.',
        kind: 'timeseries',
        unit: 'short',
        width: 6,
        queries: [
          {
            expr: `max by (service, server) (outrigger_mcp_circuit_state{${S}})`,
            legend: '{{service}} circuit of {{server}}',
          },
          { expr: `sum by (service) (outrigger_mcp_streams{${S}})`, legend: '{{service}} open streams' },
        ],
      },
    ],
  },
];
