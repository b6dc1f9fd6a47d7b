/** Metrics of the MCP egress, from its counts. There are none until the agent has connected to it. */
import type { McpListener } from '../../listeners/mcp.ts';
import { CIRCUIT_STATE_VALUE } from '../../policy/circuit-state.ts';
import { LLM_BUCKETS } from '../../telemetry/durations.ts';
import { histogramSample } from './duration-histogram.ts';
import { HistogramLayout } from './histogram-layout.ts';
import type { AddMetric, Sample } from './sampled-metric.ts';

const LAYOUT = new HistogramLayout(LLM_BUCKETS);

/** The part of the listener that the metrics read. */
export type MeasuredMcp = Pick<McpListener, 'stats' | 'egress'>;

export function addMcp(add: AddMetric, mcp: MeasuredMcp): void {
  const { stats } = mcp;
  const once = (value: () => number) => (): Sample[] =>
    mcp.egress === undefined ? [] : [{ labels: {}, value: value() }];
  const servers = function* (value: (server: NonNullable<MeasuredMcp['egress']>['all'][number]) => number) {
    for (const server of mcp.egress?.all ?? [])
      yield { labels: { server: server.name }, value: value(server) };
  };
  add(
    'counter',
    'outrigger_mcp_requests_total',
    'Requests to tool servers that ended, by outcome.',
    function* () {
      for (const { server, name: method, outcomes } of stats.methods.values())
        for (const [outcome, value] of outcomes) yield { labels: { server, method, outcome }, value };
    },
  );
  add('counter', 'outrigger_tool_runs_total', 'Calls of tools that ended, by outcome.', function* () {
    for (const { server, name: tool, outcomes } of stats.tools.values())
      for (const [outcome, value] of outcomes) yield { labels: { server, tool, outcome }, value };
  });
  add('counter', 'outrigger_mcp_retries_total', 'Requests to tool servers that were sent again.', () =>
    servers(({ name }) => stats.retries.get(name) ?? 0),
  );
  add(
    'counter',
    'outrigger_mcp_cached_lists_total',
    'Lists that were answered without the tool server.',
    once(() => stats.cachedLists),
  );
  add(
    'histogram',
    'outrigger_mcp_request_duration_seconds',
    'Duration of requests to tool servers, with all their attempts and waits.',
    function* () {
      for (const { server, name: method, duration } of stats.methods.values()) {
        const totals = new Float64Array(LAYOUT.width);
        LAYOUT.add(duration, totals);
        yield histogramSample({ labels: { server, method }, lines: [], owners: [duration], totals }, LAYOUT);
      }
    },
  );
  add(
    'gauge',
    'outrigger_mcp_active_requests',
    'Requests and streams of tool servers whose answers are not over.',
    once(() => stats.activeRequests),
  );
  add(
    'gauge',
    'outrigger_mcp_streams',
    'Streams of tool servers that the agent has opened.',
    once(() => stats.streams),
  );
  add(
    'gauge',
    'outrigger_mcp_circuit_state',
    'Circuits of tool servers: 0 closed, 1 half-open, 2 open.',
    () => servers(({ breaker }) => CIRCUIT_STATE_VALUE[breaker.state]),
  );
}
