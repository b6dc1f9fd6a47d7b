/** `outrigger bus status`: the queue of each agent type, and the sidecars that take its tasks. */
import type { Consumer, QueueStatus, TaskLog } from '../../bus/log/task-log.ts';
import { EXIT, print } from '../command.ts';
import { CONFIG_FLAGS, type HelpPage, helps } from '../help.ts';
import { age, table } from '../table.ts';
import { CLEAR, LOOK_FLAGS, repeat } from '../watch.ts';
import { BUS_EXITS, readLine, withLog } from './opened-log.ts';

const HELP: HelpPage = {
  usage: ['bus status [--watch] [--output json]'],
  about:
    'Shows for each agent type how many tasks wait, run and are dead, how long the oldest one has waited, and which sidecars take its tasks.',
  flags: { ...LOOK_FLAGS, ...CONFIG_FLAGS },
  exits: BUS_EXITS,
};

interface Row extends QueueStatus {
  readonly consumers: readonly Consumer[];
}

export async function status(args: readonly string[]): Promise<number> {
  if (helps(args, HELP)) return EXIT.OK;
  const line = await readLine('bus status', args, LOOK_FLAGS);
  if (typeof line === 'number') return line;
  const watch = line.flags.watch.length > 0;
  return withLog('bus status', line, (log) =>
    repeat(watch, async (clears) => {
      const rows = await rowsOf(log, line.bus.consume.agentTypes);
      if (line.json) print(JSON.stringify({ queues: rows.map(asJson) }, null, watch ? undefined : 2));
      else print(`${clears ? CLEAR : ''}${textOf(rows)}`);
      return EXIT.OK;
    }),
  );
}

/** Also the agent types that this configuration takes, when they have no task yet. */
async function rowsOf(log: TaskLog, known: readonly string[]): Promise<Row[]> {
  const queues = new Map((await log.status()).map((queue) => [queue.agentType, queue]));
  for (const agentType of known)
    if (!queues.has(agentType))
      queues.set(agentType, { agentType, queued: 0, running: 0, dead: 0, oldestMs: 0 });
  const rows: Row[] = [];
  for (const queue of queues.values())
    rows.push({ ...queue, consumers: await log.consumers(queue.agentType) });
  return rows.sort((one, other) => (one.agentType < other.agentType ? -1 : 1));
}

function asJson({ agentType, queued, running, dead, oldestMs, consumers }: Row) {
  return {
    agent_type: agentType,
    queued,
    running,
    dead,
    oldest_ms: Math.round(oldestMs),
    consumers: consumers.map(({ instance, name, version, places }) => ({ instance, name, version, places })),
  };
}

const HEADER = ['AGENT TYPE', 'QUEUED', 'RUNNING', 'DEAD', 'OLDEST', 'PLACES', 'TAKEN BY'];

function textOf(rows: readonly Row[]): string {
  if (rows.length === 0) return 'no task was ever submitted, and nobody takes any';
  const cells = rows.map(({ agentType, queued, running, dead, oldestMs, consumers }) => [
    agentType,
    String(queued),
    String(running),
    String(dead),
    queued === 0 ? '-' : age(oldestMs),
    String(consumers.reduce((sum, { places }) => sum + places, 0)),
    sidecars(consumers),
  ]);
  return table(HEADER, cells);
}

/** `research ×3`: the replicas of an agent have one name. */
function sidecars(consumers: readonly Consumer[]): string {
  if (consumers.length === 0) return 'nobody';
  const counts = new Map<string, number>();
  for (const { name } of consumers) counts.set(name, (counts.get(name) ?? 0) + 1);
  return [...counts].map(([name, count]) => (count === 1 ? name : `${name} ×${count}`)).join(', ');
}
