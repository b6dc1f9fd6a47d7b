/** `outrigger calls`: the running calls of one sidecar, with their attempts. */
import { AddressError } from '../net/address.ts';
import { parseDurationMs } from '../settings/duration.ts';
import { AskError, askJson, localTarget, type Target } from './ask.ts';
import { EXIT, print, printError, refuse } from './command.ts';
import { configure } from './configure.ts';
import { type FlagTable, misspelled, readFlags, splitFlags } from './flags.ts';
import { CONFIG_FLAGS, type HelpPage, helps } from './help.ts';
import { age, clean, table } from './table.ts';
import { CLEAR, LOOK_FLAGS, repeat, tableOrJson } from './watch.ts';

const FLAGS = {
  at: {
    value: 'HOST:PORT',
    help: "The admin port of the sidecar; default: the configuration's admin.listen",
  },
  task: { value: 'ID', help: 'Calls of this task id or correlation id' },
  method: { value: 'PART', help: 'Calls whose method contains this, such as ProcessTask' },
  cluster: { value: 'NAME', help: 'Calls of this cluster; app is the own agent' },
  'older-than': { value: 'DURATION', help: 'Calls that have run for at least this long' },
  limit: { value: 'N', help: 'The number of calls to show, oldest first [100]' },
  ...LOOK_FLAGS,
} satisfies FlagTable;

const HELP: HelpPage = {
  usage: ['calls [--task ID] [--method PART] [--cluster NAME] [--older-than 10s] [--watch] [--output json]'],
  about:
    'Lists the running calls of one sidecar, oldest first, with their attempts. It reads /calls at the admin port, so run it in the pod (kubectl exec POD -c outrigger -- outrigger calls) or through kubectl port-forward.',
  flags: { ...FLAGS, ...CONFIG_FLAGS },
  exits: { 69: 'the sidecar does not answer' },
  more: 'docs/observability.md explains the states; docs/three-am.md says what to do.',
};

const TIMEOUT_MS = 5_000;
/** The HTTP status of an answer that is no list of calls. */
const NO_CALLS = 200;

interface Attempt {
  readonly number: number;
  readonly endpoint: string;
  readonly state: string;
  readonly verdict: string;
  readonly status: string;
  readonly elapsed_ms: number;
}

interface LiveCall {
  readonly listener: string;
  readonly method: string;
  readonly task_id: string;
  readonly cluster: string;
  readonly caller: string;
  readonly age_ms: number;
  readonly deadline_in_ms: number | null;
  readonly state: string;
  readonly attempts: number;
  readonly way: readonly Attempt[];
}

interface CallsPage {
  readonly running: number;
  readonly matching: number;
  readonly left_out: number;
  readonly calls: readonly LiveCall[];
}

export async function calls(args: readonly string[]): Promise<number> {
  if (helps(args, HELP)) return EXIT.OK;
  const { own, rest } = splitFlags(args, FLAGS);
  const read = readFlags(own, FLAGS, {});
  if ('problems' in read) return refuse('calls', read.problems);
  const unknown = misspelled(rest, FLAGS);
  if (unknown.length > 0) return refuse('calls', unknown);
  const { flags } = read;
  const output = tableOrJson(flags.output);
  const [olderThan = '0s'] = flags['older-than'];
  const problems: string[] = [];
  if (output === undefined) problems.push('--output takes table or json');
  if (parseDurationMs(olderThan) === undefined)
    problems.push('--older-than takes a duration with its unit, such as 10s');
  if (problems.length > 0) return refuse('calls', problems);
  const where = await admin(flags.at[0], rest);
  if (typeof where === 'number') return where;
  const query = new URLSearchParams({ older_than: olderThan });
  for (const name of ['task', 'method', 'cluster', 'limit'] as const)
    if (flags[name][0] !== undefined) query.set(name, flags[name][0]);
  const watch = flags.watch.length > 0;
  return repeat(watch, async (clears) => {
    try {
      const page = (await askJson(where.target, `/calls?${query}`, TIMEOUT_MS)) as CallsPage;
      if (!isCalls(page)) throw new AskError('another server answers there; check the port', NO_CALLS);
      if (output === 'json') print(JSON.stringify(page, null, watch ? undefined : 2));
      else print(`${clears ? CLEAR : ''}${textOf(page)}`);
      return EXIT.OK;
    } catch (error) {
      if (!(error instanceof AskError)) throw error;
      printError(`outrigger calls: ${where.listen}: ${explain(error)}`);
      return error.status === 400 ? EXIT.USAGE : EXIT.UNAVAILABLE;
    }
  });
}

/** Any JSON may come back from a port that is not ours. */
function isCalls(page: Partial<CallsPage> | null): page is CallsPage {
  return (
    typeof page === 'object' &&
    [page?.running, page?.matching, page?.left_out].every(Number.isFinite) &&
    Array.isArray(page?.calls) &&
    page.calls.every(isCall)
  );
}

function isCall(call: Partial<LiveCall> | null): boolean {
  return (
    typeof call === 'object' &&
    [call?.state, call?.method, call?.task_id, call?.cluster, call?.caller].every(isText) &&
    [call?.age_ms, call?.attempts, call?.deadline_in_ms ?? 0].every(Number.isFinite) &&
    Array.isArray(call?.way) &&
    call.way.every(isAttempt)
  );
}

function isAttempt(attempt: Partial<Attempt> | null): boolean {
  return (
    typeof attempt === 'object' &&
    [attempt?.endpoint, attempt?.state, attempt?.verdict, attempt?.status].every(isText) &&
    Number.isFinite(attempt?.elapsed_ms)
  );
}

function isText(value: unknown): boolean {
  return typeof value === 'string';
}

/** The admin port to ask; a number is an exit code. */
async function admin(
  at: string | undefined,
  rest: readonly string[],
): Promise<{ listen: string; target: Target } | number> {
  // A file that is broken now says nothing about the sidecar that runs.
  const configured = at !== undefined && rest.length === 0 ? undefined : await configure(rest);
  if (configured !== undefined && 'exitCode' in configured) return configured.exitCode;
  const listen = at ?? configured!.source.current.admin.listen;
  try {
    return { listen, target: localTarget(listen) };
  } catch (error) {
    if (!(error instanceof AddressError)) throw error;
    return refuse('calls', [`--at: ${error.message}`]);
  }
}

function explain({ status, message }: AskError): string {
  if (status === 404) return 'it has no /calls: a sidecar before 0.2.0, or another server';
  if (status === 0) return `${message}; check admin.listen, or give --at`;
  return message;
}

const HEADER = ['AGE', 'STATE', 'METHOD', 'TASK', 'CLUSTER', 'CALLER', 'LEFT', 'TRIES', 'ATTEMPTS'];

function textOf({ running, matching, left_out: leftOut, calls: shown }: CallsPage): string {
  if (matching === 0)
    return running === 0 ? 'no call is running' : `none of ${running} running calls matches`;
  const rows = shown.map((call) => [
    age(call.age_ms),
    call.state,
    call.method.replace(/^.*\.(?=[^/]*\/)/, ''),
    call.task_id || '-',
    call.cluster || '-',
    call.caller || '-',
    call.deadline_in_ms === null ? '-' : age(Math.max(call.deadline_in_ms, 0)),
    String(call.attempts),
    call.way.map(attemptOf).join(', ') || '-',
  ]);
  const more = leftOut === 0 ? '' : `\n… and ${leftOut} younger ones (--limit)`;
  return `${table(HEADER, rows)}${more}`;
}

function attemptOf({ endpoint, state, verdict, status, elapsed_ms: elapsedMs }: Attempt): string {
  const what = state === 'ended' ? status || verdict : state;
  return clean(`${endpoint} ${what} ${age(elapsedMs)}`);
}
