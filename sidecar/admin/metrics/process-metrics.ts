/**
 * Metrics of the process, under the names of prom-client's default metrics, so that dashboards for Node work.
 *
 * We leave out the metrics that cost something between scrapes: prom-client's event-loop lag wakes the process a
 * hundred times a second (6 ms of CPU time a second, as much as a hundred calls), and its garbage-collection histogram
 * runs a callback after each collection. The event loop's utilization comes from counters that Node keeps anyway.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { SampledMetric } from './sampled-metric.ts';

type ProcessMetric = readonly [
  type: 'counter' | 'gauge',
  name: string,
  help: string,
  /** Undefined where the system does not report it. */
  value: () => number | undefined,
];

const startedAtSeconds = performance.timeOrigin / 1000;

const PROCESS_METRICS: readonly ProcessMetric[] = [
  [
    'counter',
    'process_cpu_seconds_total',
    'CPU time spent.',
    () => cpuSeconds('user') + cpuSeconds('system'),
  ],
  ['counter', 'process_cpu_user_seconds_total', 'User CPU time spent.', () => cpuSeconds('user')],
  ['counter', 'process_cpu_system_seconds_total', 'System CPU time spent.', () => cpuSeconds('system')],
  [
    'gauge',
    'process_start_time_seconds',
    'Start time of the process in seconds since 1970.',
    () => startedAtSeconds,
  ],
  ['gauge', 'process_resident_memory_bytes', 'Resident memory.', () => process.memoryUsage.rss()],
  ['gauge', 'process_open_fds', 'Open file descriptors.', openDescriptors],
  ['gauge', 'process_max_fds', 'Limit of open file descriptors.', descriptorLimit],
  ['gauge', 'nodejs_heap_size_total_bytes', "Size of V8's heap.", () => process.memoryUsage().heapTotal],
  [
    'gauge',
    'nodejs_heap_size_used_bytes',
    "The used part of V8's heap.",
    () => process.memoryUsage().heapUsed,
  ],
  [
    'gauge',
    'nodejs_external_memory_bytes',
    "Memory that V8's objects hold outside its heap.",
    () => process.memoryUsage().external,
  ],
  [
    'counter',
    'nodejs_eventloop_active_seconds_total',
    'Busy time of the event loop; its rate is the utilization.',
    () => performance.eventLoopUtilization().active / 1000,
  ],
  [
    'counter',
    'nodejs_eventloop_idle_seconds_total',
    'Idle time of the event loop.',
    () => performance.eventLoopUtilization().idle / 1000,
  ],
];

export function processMetrics(): SampledMetric[] {
  return PROCESS_METRICS.map(
    ([type, name, help, value]) =>
      new SampledMetric(type, name, help, () => {
        const now = value();
        return now === undefined ? [] : [{ labels: {}, value: now }];
      }),
  );
}

function cpuSeconds(kind: 'user' | 'system'): number {
  return process.cpuUsage()[kind] / 1e6;
}

/** From Linux's /proc; unknown on other systems. */
function openDescriptors(): number | undefined {
  try {
    // One of them is the descriptor of the listing itself.
    return readdirSync('/proc/self/fd').length - 1;
  } catch {
    return undefined;
  }
}

function descriptorLimit(): number | undefined {
  try {
    const limit = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'));
    return limit === null ? undefined : Number(limit[1]);
  } catch {
    return undefined;
  }
}
