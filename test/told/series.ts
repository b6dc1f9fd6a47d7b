// What is true of each series of `/metrics` after the known mix. A series that has no expectation here fails: whoever adds a
// metric says what is true of it.
import type { Exposition } from '../../scripts/harness/exposition.ts';
import { complaint, Ledger, labelOf, type Service, type Timed, type Truth } from './ledger.ts';
import { LIMIT } from './system.ts';

/** As circuits tell their state. */
export const OPEN = 2;

type Labels = Readonly<Record<string, string | undefined>>;

/** 0 when nothing goes on, and nothing is wrong. */
const AT_REST = new Set([
  'outrigger_config_refused',
  'outrigger_log_lines_dropped_total',
  'outrigger_active_calls',
  'outrigger_queued_calls',
  'outrigger_llm_active_requests',
  'outrigger_llm_waiting_requests',
  'outrigger_llm_web_sockets',
  'outrigger_llm_body_bytes',
  // No tool server is configured.
  'outrigger_mcp_active_requests',
  'outrigger_mcp_streams',
  'outrigger_mcp_circuit_state',
  'outrigger_llm_circuit_state',
  'outrigger_llm_out_of_credit',
  'outrigger_spans_waiting',
  // There is a bus, and nobody submits a task.
  'outrigger_bus_tasks_total',
  'outrigger_bus_queued',
  'outrigger_bus_running',
  'outrigger_bus_dead',
  'outrigger_bus_oldest_seconds',
]);

/**
 * What is wrong with a page; nothing when all of it is true.
 *
 * @param others what is known by names alone
 * @param spans that the collector has of this service
 */
export function falseSeries(
  page: Exposition,
  service: Service,
  ledger: Ledger,
  { others, spans }: { others: Readonly<Record<string, Truth>>; spans: number },
): string[] {
  const wrong = new Set<string>();
  const names = new Set([...page.samples.keys()].map((series) => series.slice(0, series.indexOf('{'))));
  for (const name of names) {
    for (const { labels, value } of page.all(name)) {
      const truth =
        name === 'outrigger_spans_total'
          ? labels['outcome'] === 'exported'
            ? spans
            : 0
          : (others[name] ?? truthOf(service, name, labels, ledger));
      const said = truth === undefined ? 'nobody has said what is true of it' : complaint(truth, value);
      if (said !== undefined) wrong.add(`${name} ${JSON.stringify(labels)}: ${said}`);
    }
  }
  return [...wrong];
}

function truthOf(service: Service, name: string, labels: Labels, ledger: Ledger): Truth | undefined {
  const histogram = /^(.*_seconds)_(bucket|sum|count)$/.exec(name);
  if (histogram !== null) {
    const timed = timedOf(service, histogram[1]!, labels, ledger);
    return timed === undefined ? undefined : part(histogram[2]!, labels['le'], timed);
  }
  if (AT_REST.has(name)) return 0;
  const own = service === 'research';
  const { listener } = labels;
  switch (name) {
    case 'outrigger_build_info':
    case 'outrigger_ready':
    case 'outrigger_bus_connected':
      return 1;
    case 'outrigger_findings':
      return { unknown: 'what is found depends on the second; test/outages.test.ts makes each of them' };
    case 'outrigger_concurrency_limit':
      return own && listener === 'inbound' ? LIMIT : { unknown: 'the default, or none' };
    case 'outrigger_active_connections':
      return { unknown: 'how many connections a client or a pool opens is its own business' };
    case 'outrigger_rejected_total':
      return rejectedOf(service, listener, labels['reason'], ledger);
    case 'outrigger_llm_cooldown_seconds':
      return { unknown: 'it runs down' };
  }
  return resilienceOf(name, labels, own ? new Ledger() : ledger) ?? countOf(own, name, labels, ledger);
}

function resilienceOf(name: string, labels: Labels, ledger: Ledger): Truth | undefined {
  const { cluster, outcome, reason, method } = labels;
  const isOf = (one: { cluster: string; reason: string }): boolean =>
    one.cluster === cluster && one.reason === reason;
  const opened = ledger.opened.find((one) => one.cluster === cluster && one.method === `/${method}`);
  switch (name) {
    case 'outrigger_retries_total':
    case 'outrigger_hedges_total': {
      const kind = name === 'outrigger_retries_total' ? 'retries' : 'hedges';
      return ledger.decisions.filter(
        (one) => one.kind === kind && one.cluster === cluster && one.outcome === outcome,
      ).length;
    }
    case 'outrigger_streams_resumed_total':
      return 0;
    case 'outrigger_circuit_state':
      return opened === undefined ? 0 : OPEN;
    case 'outrigger_circuit_rejections_total':
      return opened?.turnedAway ?? 0;
    case 'outrigger_ejections_total':
    case 'outrigger_endpoints_ejected':
      return ledger.ejected.filter(isOf).length;
    case 'outrigger_connect_failures_total':
      return unconnectedOf(ledger.unconnected.filter(isOf));
  }
  return undefined;
}

/** A deadline that both sidecars know of may be told by either, or both. */
export function rejectedOf(
  service: Service,
  listener: string | undefined,
  reason: string | undefined,
  { rejected, made, served }: Ledger,
): Truth {
  const count = rejected.filter(
    (one) => one.service === service && one.listener === listener && one.reason === reason,
  ).length;
  if (reason !== 'deadline') return count;
  if (service === 'caller')
    return listener === 'outbound' ? [count, count + made.filter(({ isRace }) => isRace).length] : count;
  const struck = served.filter(({ isRace, code }) => isRace && code === 'DEADLINE_EXCEEDED').length;
  return listener === 'inbound' ? count + struck : count;
}

export function unconnectedOf(group: Ledger['unconnected']): Truth {
  return [group.length, Math.max(0, ...group.map(({ most }) => most))];
}

function countOf(own: boolean, name: string, labels: Labels, ledger: Ledger): Truth | undefined {
  const { cluster, code, outcome } = labels;
  const { made, served, tasks, again, models } = ledger;
  const isOf = ({ upstream, model }: { upstream: string; model: string }): boolean =>
    own && labels['upstream'] === upstream && labels['model'] === model;
  const asked = models.filter(isOf);
  switch (name) {
    case 'outrigger_attempts_total': {
      if (own)
        return cluster === 'app'
          ? served.filter(({ atApp, code: told }) => atApp !== undefined && told === code).length
          : 0;
      const count = made
        .filter((call) => call.cluster === cluster)
        .reduce((sum, { attempts }) => sum + attempts.filter((one) => one === code).length, 0);
      // Of two endpoints, either.
      return cluster === 'hedged' || cluster === 'ejecting' ? [0, count] : count;
    }
    case 'outrigger_tasks_total':
      return own ? tasks.filter(({ status }) => status === labels['status']).length : 0;
    case 'outrigger_tokens_total':
      return own ? tasks.reduce((sum, { use, tokens }) => sum + (use === labels['use'] ? tokens : 0), 0) : 0;
    case 'outrigger_tasks_deduplicated_total':
      return own ? again.filter((one) => one.outcome === outcome).length : 0;
    case 'outrigger_llm_requests_total':
      return asked.filter((one) => one.outcome === outcome).length;
    case 'outrigger_llm_attempts_total':
      return asked.flatMap(({ attempts }) => attempts).filter((one) => one === outcome).length;
    case 'outrigger_llm_retries_total':
      return asked.reduce((sum, { attempts }) => sum + Math.max(0, attempts.length - 1), 0);
    case 'outrigger_llm_cost_usd_total':
      // No list has prices of these models.
      return 0;
    case 'outrigger_llm_unpriced_total': {
      const answered = asked.flatMap(({ attempts }) => attempts).filter((one) => one === 'success').length;
      return [answered, answered + asked.filter((one) => one.wastes).length];
    }
    case 'outrigger_llm_tokens_total': {
      const { type } = labels;
      if (type === 'input' || type === 'output') return asked.reduce((sum, one) => sum + one[type], 0);
      const wastes = asked.filter((one) => one.wastes).length;
      return wastes === 0 ? 0 : [wastes, Number.MAX_SAFE_INTEGER];
    }
  }
  return undefined;
}

/** What a histogram's series are of. */
function timedOf(
  service: Service,
  base: string,
  labels: Labels,
  { made, served, models }: Ledger,
): readonly Timed[] | undefined {
  const own = service === 'research';
  const isSame = (call: { method: string; code: string }): boolean =>
    labelOf(call) === labels['rpc_method'] && call.code === labels['rpc_status_code'];
  const asked = models.filter(
    ({ upstream, model }) => own && labels['upstream'] === upstream && labels['model'] === model,
  );
  switch (base) {
    case 'rpc_server_call_duration_seconds':
      return own ? served.filter(isSame) : [];
    case 'rpc_client_call_duration_seconds':
      return own ? [] : made.filter((call) => isSame(call) && call.cluster === (labels['cluster'] ?? ''));
    case 'outrigger_llm_request_duration_seconds':
      return asked;
    case 'outrigger_llm_time_to_first_token_seconds':
      return asked.filter(({ begun }) => begun > 0);
  }
  return undefined;
}

/** Of the sum, and of each bucket, no less and no more than agent and callers have seen. */
function part(name: string, le: string | undefined, timed: readonly Timed[]): Truth {
  if (name === 'count') return timed.length;
  if (name === 'sum') return [sumOf(timed, 'leastMs') / 1000, sumOf(timed, 'mostMs') / 1000];
  const limitMs = Number(le === '+Inf' ? Number.POSITIVE_INFINITY : le) * 1000;
  const within = (by: 'leastMs' | 'mostMs'): number => timed.filter((one) => one[by] <= limitMs).length;
  return [within('mostMs'), within('leastMs')];
}

export function sumOf(timed: readonly Timed[], by: 'leastMs' | 'mostMs'): number {
  return timed.reduce((sum, one) => sum + one[by], 0);
}
