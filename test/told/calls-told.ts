// What `/stats`, `/live`, the access log and the spans tell of calls, held to the ledger.
import type { Test } from 'tap';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import type { ReceivedSpan } from '../support/otlp.ts';
import { complaint, isError, type Ledger, labelOf, type Service, type Timed } from './ledger.ts';
import { quantileOf } from './quantile.ts';
import { sumOf } from './series.ts';
import { adminPage, type ToldSystem } from './system.ts';

type ToldCall = Timed & { readonly method: string; readonly code: string; readonly cluster?: string };
type Line = Readonly<Record<string, unknown>>;

/** Rounded to hundredths, or thousandths. */
const ROUNDED = 0.01;

interface Stats {
  readonly listeners: Readonly<
    Record<string, { readonly methods: Methods; readonly rejected: Readonly<Record<string, number>> }>
  >;
  readonly clusters: Readonly<Record<string, Methods>>;
}
type Methods = Readonly<
  Record<string, Readonly<Record<string, { readonly count: number; readonly mean_ms: number }>>>
>;

interface Live {
  readonly uptime_s: number;
  readonly listeners: readonly {
    readonly name: string;
    readonly traffic: {
      readonly last_minute: Readonly<Record<'calls' | 'errors' | 'p50_ms' | 'p90_ms' | 'p99_ms', number>>;
    };
  }[];
}

/** All that is older than this may have left the last minute. */
const MINUTE_S = 58;

/** The lines of a sidecar's access log for one listener, once there are as many as there are calls. */
export function accessLines({ logs }: { logs(): string }, listener: string, count: number): Promise<Line[]> {
  return waitUntil('the access log has them all', () => {
    const all = logs()
      .split('\n')
      .filter((line) => line.includes('"log":"access"'))
      .map((line) => JSON.parse(line) as Line)
      .filter((line) => line['listener'] === listener);
    return all.length >= count && all;
  });
}

/** Each group's key and size, in order. */
export function tally<T>(all: readonly T[], keyOf: (one: T) => string): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const key of all.map(keyOf).sort()) counts[key] = (counts[key] ?? 0) + 1;
  return counts;
}

/** Whether the sums of durations lie between what agent and callers have seen, by method, status and cluster. */
function complaintsOf(
  calls: readonly ToldCall[],
  told: readonly { readonly key: string; readonly ms: number }[],
  keyOf: (call: ToldCall) => string,
): string[] {
  return Object.keys(tally(calls, keyOf)).flatMap((key) => {
    const own = calls.filter((call) => keyOf(call) === key);
    const sum = told.reduce((total, one) => total + (one.key === key ? one.ms : 0), 0);
    const slack = own.length * ROUNDED;
    const truth = [sumOf(own, 'leastMs') - slack, sumOf(own, 'mostMs') + slack] as const;
    const said = complaint(truth, sum);
    return said === undefined ? [] : [`${key}: ${said}`];
  });
}

export async function holdCalls(
  t: Test,
  system: ToldSystem,
  ledger: Ledger,
  service: Service,
): Promise<void> {
  const isCaller = service === 'caller';
  const listener = isCaller ? 'outbound' : 'inbound';
  const calls: readonly ToldCall[] = isCaller ? ledger.made : ledger.served;
  const stats = (await adminPage(system[service], '/stats')) as Stats;
  const totals = {
    total_requests: calls.length,
    total_errors: calls.filter(isError).length,
    active_calls: 0,
  };
  t.match(stats.listeners[listener], totals, `/stats of ${listener}`);
  await holdLive(t, system, service, listener, calls, totals);
  holdStats(t, stats, calls, listener);

  const keyOf = (call: ToldCall): string => [call.cluster || '-', call.method.slice(1), call.code].join(' ');
  const lines = await accessLines(system[service], listener, calls.length);
  const keyOfLine = (line: Line): string =>
    [(isCaller && line['cluster']) || '-', line['method'], line['status']].join(' ');
  t.same(tally(lines, keyOfLine), tally(calls, keyOf), `the access log of ${listener}`);
  const written = lines.map((line) => ({ key: keyOfLine(line), ms: Number(line['duration_ms']) }));
  t.same(complaintsOf(calls, written, keyOf), [], `the durations in the access log of ${listener}`);
  const again = lines.filter((line) => line['deduplicated'] === true).length;
  t.equal(again, isCaller ? 0 : ledger.again.length, 'lines of tasks that came again');
  if (isCaller) {
    const made = ledger.made.reduce((sum, { attempts }) => sum + attempts.length, 0);
    t.equal(
      lines.reduce((sum, line) => sum + Number(line['attempts']), 0),
      made,
      'attempts in the access log',
    );
  }

  const own = system.collector.spans.filter(
    ({ resource, attributes }) =>
      resource['service.name'] === service && attributes['rpc.method'] !== undefined,
  );
  const spans = own.filter(({ name, kind }) => !name.startsWith('Attempt.') && kind === (isCaller ? 3 : 2));
  const codeOf = ({ attributes }: ReceivedSpan): string => String(attributes['rpc.response.status_code']);
  const keyOfSpan = (span: ReceivedSpan): string =>
    [(isCaller && span.attributes['outrigger.cluster']) || '-', span.name, codeOf(span)].join(' ');
  const traced = (call: ToldCall): string => [call.cluster || '-', labelOf(call), call.code].join(' ');
  t.same(tally(spans, keyOfSpan), tally(calls, traced), `the spans of ${listener}`);
  const lasted = spans.map((span) => ({
    key: keyOfSpan(span),
    ms: Number(span.endNano - span.startNano) / 1e6,
  }));
  t.same(complaintsOf(calls, lasted, traced), [], `the durations of the spans of ${listener}`);
  const red = spans.filter(({ status }) => status === 2).map(codeOf);
  const isRed = isCaller
    ? ({ code }: ToldCall) => code !== 'OK'
    : (call: ToldCall) => isError(call) || call.code === 'UNIMPLEMENTED';
  t.same(
    tally(red, String),
    tally(calls.filter(isRed), ({ code }) => code),
    `red spans of ${listener}`,
  );
  if (isCaller) {
    const attempts = own.filter(({ name }) => name.startsWith('Attempt.'));
    const expected = ledger.made.flatMap((call) =>
      call.attempts.map((code) => labelOf({ ...call, code }) + code),
    );
    t.same(
      tally(attempts, (span) => span.name.slice(8) + codeOf(span)),
      tally(expected, String),
      'the spans of attempts',
    );
  } else {
    const repeated = spans.flatMap(({ attributes }) => attributes['outrigger.deduplicated'] ?? []);
    t.same(
      tally(repeated, String),
      tally(ledger.again, ({ outcome }) => outcome),
      'spans of tasks that came again',
    );
  }
}

/** Counts and mean durations of each method and status; outbound at the clusters, and what came to none at the listener. */
function holdStats(t: Test, stats: Stats, calls: readonly ToldCall[], listener: string): void {
  const groups: [string, Methods][] = [['-', stats.listeners[listener]!.methods]];
  if (listener === 'outbound') groups.push(...Object.entries(stats.clusters));
  const told = groups.flatMap(([cluster, methods]) =>
    Object.entries(methods).flatMap(([method, byStatus]) =>
      Object.entries(byStatus).map(([code, { count, mean_ms }]) => ({
        key: [cluster, method, code].join(' '),
        count,
        ms: count * mean_ms,
      })),
    ),
  );
  const keyOf = (call: ToldCall): string => [call.cluster || '-', labelOf(call), call.code].join(' ');
  const counts = Object.fromEntries(told.map(({ key, count }) => [key, count]));
  t.same(counts, tally(calls, keyOf), `/stats of ${listener}, by method and status`);
  t.same(complaintsOf(calls, told, keyOf), [], `mean durations in /stats of ${listener}`);
}

/** The totals; and the last minute, which holds everything while the sidecar is younger. */
async function holdLive(
  t: Test,
  system: ToldSystem,
  service: Service,
  listener: string,
  calls: readonly ToldCall[],
  totals: object,
): Promise<void> {
  const look = async (): Promise<Live> => (await adminPage(system[service], '/live?format=json')) as Live;
  const { uptime_s: before } = await look();
  const live = await waitUntil('two more seconds are in it', async () => {
    const page = await look();
    return page.uptime_s >= before + 2 && page;
  });
  const shown = live.listeners.find(({ name }) => name === listener)!;
  t.match(shown, totals, `/live of ${listener}`);
  const { last_minute: minute } = shown.traffic;
  if (live.uptime_s > MINUTE_S) {
    t.ok(minute.calls <= calls.length, 'no more calls in the last minute than there were');
    return;
  }
  t.match(
    minute,
    { calls: calls.length, errors: calls.filter(isError).length },
    `the last minute of ${listener}`,
  );
  for (const [name, q] of [
    ['p50_ms', 0.5],
    ['p90_ms', 0.9],
    ['p99_ms', 0.99],
  ] as const)
    t.equal(
      complaint(quantileOf(q, calls, 'calls'), minute[name] / 1000),
      undefined,
      `${name} of ${listener}`,
    );
}
