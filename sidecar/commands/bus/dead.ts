/** `outrigger bus dead`: the tasks that no agent has answered, to look at, to try again, or to forget. */
import type { TaskLog } from '../../bus/log/task-log.ts';
import type { TaskKey } from '../../bus/log/task-record.ts';
import { EXIT, print, printError, refuse } from '../command.ts';
import type { FlagTable } from '../flags.ts';
import { CONFIG_FLAGS, type HelpPage, helps } from '../help.ts';
import { clean } from '../table.ts';
import { BUS_EXITS, OUTPUT_FLAG, readLine, withLog } from './opened-log.ts';
import { deadTable, taskAsJson } from './task-rows.ts';
import { listed } from './tasks.ts';

const LIST_FLAGS = {
  agent: { value: 'TYPE', help: 'Dead tasks of this agent type' },
  ...OUTPUT_FLAG,
} satisfies FlagTable;

const FLAGS = {
  all: { bare: true, help: 'All dead tasks, or with --agent those of one type' },
  ...LIST_FLAGS,
} satisfies FlagTable;

/** More dead letters than anybody reads. */
const MOST = 100_000;
const EXITS = { 1: 'a named task is not dead, or not there', ...BUS_EXITS };

const LIST_HELP: HelpPage = {
  usage: ['bus dead list [--agent TYPE] [--output json]'],
  about:
    'Lists the dead letters, latest first, with their causes: tasks whose runs were lost too often (bus.consume.max_runs), that waited too long (bus.publish.max_age), or that nobody could read.',
  flags: { ...LIST_FLAGS, ...CONFIG_FLAGS },
  exits: BUS_EXITS,
};

const RETRY_HELP: HelpPage = {
  usage: ['bus dead retry ID …', 'bus dead retry --all [--agent TYPE]'],
  about:
    'Submits dead tasks anew: each waits for an agent as if it had just been submitted, with all its runs.',
  flags: { ...FLAGS, ...CONFIG_FLAGS },
  exits: EXITS,
};

const DROP_HELP: HelpPage = {
  usage: ['bus dead drop ID …', 'bus dead drop --all [--agent TYPE]'],
  about: 'Forgets dead tasks, with their requests. Nothing brings them back.',
  flags: { ...FLAGS, ...CONFIG_FLAGS },
  exits: EXITS,
};

export async function deadList(args: readonly string[]): Promise<number> {
  if (helps(args, LIST_HELP)) return EXIT.OK;
  const line = await readLine('bus dead list', args, LIST_FLAGS);
  if (typeof line === 'number') return line;
  return withLog('bus dead list', line, async (log) => {
    const { records } = await listed(log, { agentType: line.flags.agent[0], state: 'dead' }, MOST);
    if (line.json) print(JSON.stringify({ tasks: records.map(taskAsJson) }, null, 2));
    else print(records.length === 0 ? 'no task is dead' : deadTable(records, log.nowMs()));
    return EXIT.OK;
  });
}

export function deadRetry(args: readonly string[]): Promise<number> {
  if (helps(args, RETRY_HELP)) return Promise.resolve(EXIT.OK);
  return each('bus dead retry', 'retried', args, (log, key) => log.retryDead(key));
}

export function deadDrop(args: readonly string[]): Promise<number> {
  if (helps(args, DROP_HELP)) return Promise.resolve(EXIT.OK);
  return each('bus dead drop', 'dropped', args, (log, key) => log.dropDead(key));
}

async function each(
  command: string,
  done: 'retried' | 'dropped',
  args: readonly string[],
  handle: (log: TaskLog, key: TaskKey) => Promise<boolean>,
): Promise<number> {
  const line = await readLine(command, args, FLAGS, true);
  if (typeof line === 'number') return line;
  const { words, flags } = line;
  const all = flags.all.length > 0;
  const [agentType] = flags.agent;
  if (all === words.length > 0) return refuse(command, ['name the ids of tasks, or give --all']);
  if (agentType !== undefined && !all) return refuse(command, ['--agent belongs to --all']);
  return withLog(command, line, async (log) => {
    const keys = all
      ? (await listed(log, { agentType, state: 'dead' }, MOST)).records.map(({ key }) => key)
      : words;
    const handled: TaskKey[] = [];
    const missing: TaskKey[] = [];
    for (const key of keys) ((await handle(log, key)) ? handled : missing).push(key);
    if (line.json) print(JSON.stringify({ [done]: handled, missing }, null, 2));
    else print(`${done} ${handled.length} of ${keys.length}`);
    // One that another command has handled in the meantime is no problem of --all.
    if (all || missing.length === 0) return EXIT.OK;
    printError(
      `${clean(missing.map((key) => key.slice(0, 60)).join(', '))}: no dead task has this id; "outrigger bus dead list" lists them`,
    );
    return EXIT.PROBLEM;
  });
}
