/** Asks every sidecar for its status, some at a time, and makes a row of each. */
import { AskError, askJson } from '../ask.ts';
import { age, clean, table } from '../table.ts';
import type { Found } from './fleet.ts';

/** So many at a time: enough for a fleet, few enough for an API server in between. */
const AT_A_TIME = 16;
const MAX_PROBLEM_LINES = 30;
/** The default of the setting `version`. */
const UNSET_VERSION = '0.0.0';

/** What `/status` says (`admin/status-page.ts`), as far as the table needs it. */
interface StatusPage {
  readonly name: string;
  readonly version: string;
  readonly outrigger_version: string;
  readonly state: string;
  readonly draining: boolean;
  readonly ready: boolean;
  readonly not_ready_because: string;
  readonly has_app: boolean;
  readonly uptime_s: number;
  readonly inbound: Traffic;
  readonly outbound: Traffic;
  readonly open_circuits: number;
  readonly ejected_endpoints: number;
  readonly problems: number;
  readonly findings: readonly {
    readonly kind: string;
    readonly severity: string;
    readonly text: string;
    readonly numbers?: Readonly<Record<string, unknown>> | null;
  }[];
}

interface Traffic {
  readonly active_calls: number;
  readonly calls_per_s: number;
  readonly success: number | null;
  readonly p95_ms: number | null;
}

/** One sidecar. `status` is null where it could not be asked; `problem` then says why. */
export interface Row {
  readonly address: string;
  readonly pod: string;
  readonly state: 'ready' | 'not ready' | 'draining' | 'unreachable';
  /** Something is wrong: unreachable, not ready, or a `bad` finding. */
  readonly wrong: boolean;
  readonly problem: string;
  readonly status: StatusPage | null;
}

export async function askFleet(fleet: readonly Found[], timeoutMs: number): Promise<Row[]> {
  const rows: Row[] = new Array(fleet.length);
  let next = 0;
  const work = async (): Promise<void> => {
    for (let index = next++; index < fleet.length; index = next++)
      rows[index] = await askOne(fleet[index]!, timeoutMs);
  };
  await Promise.all(Array.from({ length: Math.min(AT_A_TIME, fleet.length) }, work));
  return rows;
}

async function askOne({ address, pod, target, path }: Found, timeoutMs: number): Promise<Row> {
  try {
    const status = (await askJson(target, path, timeoutMs)) as StatusPage;
    if (!isStatus(status)) return unreachable(address, pod, 'another server answers there; check the port');
    const state = status.draining ? 'draining' : status.ready ? 'ready' : 'not ready';
    const isBad = status.findings.some(({ severity }) => severity === 'bad');
    const wrong = state === 'not ready' || isBad;
    return { address, pod, state, wrong, problem: '', status };
  } catch (error) {
    if (!(error instanceof AskError)) throw error;
    return unreachable(address, pod, explain(error));
  }
}

function unreachable(address: string, pod: string, problem: string): Row {
  return { address, pod, state: 'unreachable', wrong: true, problem, status: null };
}

/** Any JSON may come back from a port that is not ours. */
function isStatus(value: Partial<StatusPage> | null): value is StatusPage {
  return (
    typeof value === 'object' &&
    typeof value?.name === 'string' &&
    typeof value.version === 'string' &&
    isTraffic(value.inbound) &&
    isTraffic(value.outbound) &&
    Array.isArray(value.findings) &&
    value.findings.every((finding) => typeof finding?.text === 'string')
  );
}

function isTraffic(traffic: Partial<Traffic> | undefined): boolean {
  return [traffic?.calls_per_s, traffic?.success ?? 0, traffic?.p95_ms ?? 0].every(Number.isFinite);
}

function explain({ status, message }: AskError): string {
  if (status === 404) return 'it has no /status: a sidecar before 0.2.0, or another server';
  if (status === 403) return `the permission is missing (403): ${message}`;
  return message;
}

const HEADER = [
  'NAME',
  'ADDRESS',
  'VERSION',
  'STATE',
  'CALLS/S',
  'SUCCESS',
  'P95',
  'OPEN',
  'EJECTED',
  'PROBLEMS',
];

/** The table, and below it the problems in words. */
export function textOf(rows: readonly Row[]): string {
  const lines = [table(HEADER, rows.map(cells))];
  const problems = rows.flatMap(problemsOf);
  if (problems.length > 0) lines.push('', ...problems.slice(0, MAX_PROBLEM_LINES));
  if (problems.length > MAX_PROBLEM_LINES)
    lines.push(`… and ${problems.length - MAX_PROBLEM_LINES} more (--output json has all)`);
  return lines.join('\n');
}

function cells({ address, pod, state, status }: Row): string[] {
  const where = pod === '' ? address : `${pod} (${address})`;
  if (status === null) return ['?', where, '?', state, '-', '-', '-', '-', '-', '1'];
  // A gateway has no app: what it asks of others is its traffic.
  const {
    calls_per_s: perSecond,
    success,
    p95_ms: p95Ms,
  } = status.has_app ? status.inbound : status.outbound;
  return [
    status.name,
    where,
    versionOf(status),
    state,
    perSecond.toFixed(perSecond < 10 ? 2 : 0),
    success === null ? '-' : `${(Math.floor(success * 1000) / 10).toFixed(1)}%`,
    p95Ms === null ? '-' : p95Ms < 1_000 ? `${Math.round(p95Ms)}ms` : age(p95Ms),
    String(status.open_circuits),
    String(status.ejected_endpoints),
    String(status.problems),
  ];
}

/** The agent's version is the setting `version`, which may be unset; the one in brackets is Outrigger's. */
function versionOf({ version, outrigger_version: own }: StatusPage): string {
  return `${version === UNSET_VERSION ? '-' : version} (${own})`;
}

function problemsOf({ address, problem, status }: Row): string[] {
  if (status === null) return [clean(`${address}: ${problem}`)];
  return status.findings.map(({ text, numbers }) =>
    clean(`${status.name} ${address}: ${text}${numbersOf(numbers)}`),
  );
}

/** ` (failed calls 5, ended calls 8)`. */
function numbersOf(numbers: object | null | undefined): string {
  const known = Object.entries(numbers ?? {}).filter(([, value]) => typeof value === 'number');
  if (known.length === 0) return '';
  return ` (${known.map(([name, value]) => `${name.replaceAll('_', ' ')} ${value}`).join(', ')})`;
}
