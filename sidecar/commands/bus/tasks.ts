/** `outrigger bus tasks`: the tasks on the bus with their states and runs, without what they contain. */
import type { TaskLog } from '../../bus/log/task-log.ts';
import { TASK_ARROWS, type TaskRecord, type TaskState } from '../../bus/log/task-record.ts';
import { EXIT, print, refuse } from '../command.ts';
import type { FlagTable } from '../flags.ts';
import { CONFIG_FLAGS, type HelpPage, helps } from '../help.ts';
import { BUS_EXITS, OUTPUT_FLAG, readLine, withLog } from './opened-log.ts';
import { taskAsJson, taskTable } from './task-rows.ts';

const FLAGS = {
  agent: { value: 'TYPE', help: 'Tasks of this agent type' },
  state: { value: 'STATE', help: 'queued, running, done, dead or cancelled' },
  limit: { value: 'N', help: 'The number of tasks to show, latest first [100]' },
  ...OUTPUT_FLAG,
} satisfies FlagTable;

const HELP: HelpPage = {
  usage: ['bus tasks [--agent TYPE] [--state STATE] [--limit N] [--output json]'],
  about:
    'Lists tasks of all callers with their states and runs, latest first. It never prints what tasks and answers contain.',
  flags: { ...FLAGS, ...CONFIG_FLAGS },
  exits: BUS_EXITS,
};

const USUAL = 100;
const MOST = 100_000;
const PAGE = 1_000;

export async function tasks(args: readonly string[]): Promise<number> {
  if (helps(args, HELP)) return EXIT.OK;
  const line = await readLine('bus tasks', args, FLAGS);
  if (typeof line === 'number') return line;
  const { flags, json } = line;
  const [state] = flags.state;
  const limit = limitOf(flags.limit[0]);
  const problems: string[] = [];
  if (state !== undefined && !Object.hasOwn(TASK_ARROWS, state))
    problems.push(`--state takes ${Object.keys(TASK_ARROWS).join(', ')}`);
  if (limit === undefined) problems.push(`--limit takes a number from 1 to ${MOST}`);
  if (problems.length > 0) return refuse('bus tasks', problems);
  return withLog('bus tasks', line, async (log) => {
    const filter = { agentType: flags.agent[0], state: state as TaskState | undefined };
    const { records, more } = await listed(log, filter, limit!);
    if (json) print(JSON.stringify({ tasks: records.map(taskAsJson), more }, null, 2));
    else if (records.length === 0) print('no such task');
    else print(`${taskTable(records, log.nowMs())}${more ? '\n… and older ones (--limit)' : ''}`);
    return EXIT.OK;
  });
}

function limitOf(text: string | undefined): number | undefined {
  if (text === undefined) return USUAL;
  const limit = /^\d{1,6}$/.test(text) ? Number(text) : 0;
  return limit >= 1 && limit <= MOST ? limit : undefined;
}

/** So many tasks that match, page by page. */
export async function listed(
  log: TaskLog,
  { agentType, state }: { readonly agentType?: string | undefined; readonly state?: TaskState | undefined },
  limit: number,
): Promise<{ records: TaskRecord[]; more: boolean }> {
  const records: TaskRecord[] = [];
  let after: string | undefined;
  do {
    const page = await log.list({
      limit: Math.min(PAGE, limit - records.length),
      ...(agentType === undefined ? {} : { agentType }),
      ...(state === undefined ? {} : { state }),
      ...(after === undefined ? {} : { after }),
    });
    records.push(...page.records);
    after = page.next;
  } while (after !== undefined && records.length < limit);
  return { records, more: after !== undefined };
}
