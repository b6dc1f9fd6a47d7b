// The tasks of the known mix, and its streams: tasks that come again, that join one in flight, that fail and that break.
import * as grpc from '@grpc/grpc-js';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { taskRequest } from '../support/upstream.ts';
import { STREAMED_TASK, TASK, TOKENS } from './agent.ts';
import type { Player } from './player.ts';
import { adminPage } from './system.ts';

const { OK } = grpc.status;

export async function playTasks(player: Player): Promise<void> {
  const bodyOf = (id: string, input: string) =>
    taskRequest({ id: `${player.round} ${id}`, type: 'research', input });
  const ran = new Set<string>();
  for (const id of ['a', 'b', 'a', 'c', 'a']) {
    const isFirst = !ran.has(id);
    ran.add(id);
    player.plain(await player.unary('plain', TASK, bodyOf(id, 'x')), OK, isFirst ? OK : null);
    if (isFirst) player.task('SUCCESS', 'useful', TOKENS);
    else player.ledger.again.push({ round: player.round, outcome: 'replayed' });
  }
  for (const id of ['d', 'e']) {
    player.plain(await player.unary('plain', TASK, bodyOf(id, 'fail')));
    player.task('FAILED', 'wasted', TOKENS);
  }
  player.plain(await player.unary('plain', TASK, bodyOf('f', 'break')), grpc.status.INTERNAL);
  player.task('ERROR', 'wasted', 0);
  // Two that come while the first of their task runs.
  const { agent, research } = player.system;
  const again = async (): Promise<number> => {
    const stats = (await adminPage(research, '/stats')) as { tasks_once: { joined: number } };
    return stats.tasks_once.joined;
  };
  const [before, body] = [await again(), bodyOf('g', 'hold')];
  const first = player.unary('plain', TASK, body);
  await waitUntil('the agent has the task', () => agent.held.length === 1);
  const others = [1, 2].map(() => player.unary('plain', TASK, body));
  await waitUntil('the others have joined it', async () => (await again()) === before + 2);
  agent.held.pop()!();
  player.plain({ ...(await first), leastMs: 0 });
  player.task('SUCCESS', 'useful', TOKENS);
  for (const other of others) {
    player.plain({ ...(await other), leastMs: 0 }, OK, null);
    player.ledger.again.push({ round: player.round, outcome: 'joined' });
  }
}

/**
 * @param expected how its agent ends it, after three messages
 * @param asking of a task whose agent asks a model first: its id, and the tokens that this takes
 */
export async function playStream(
  player: Player,
  method: string,
  expected: grpc.status,
  asking?: { readonly id: string; readonly tokens: number },
): Promise<void> {
  const startedAtMs = performance.now();
  const id = asking?.id ?? player.id();
  const input = [asking && 'ask', expected !== OK && 'break'].filter(Boolean).join(' ') || 'x';
  const body = method === STREAMED_TASK ? taskRequest({ id, input }) : Buffer.from(id);
  let messages = 0;
  const stream = player.client('plain').serverStream(body, { path: method });
  stream.on('data', () => messages++);
  stream.on('error', () => {});
  const code = await new Promise<grpc.status>((resolve) =>
    stream.on('status', (status) => setImmediate(() => resolve(status.code))),
  );
  const mostMs = await player.since(startedAtMs);
  player.t.equal(messages, 3, method);
  player.plain({ method, code, leastMs: player.system.agent.takeMs(body), mostMs }, expected);
  if (method !== STREAMED_TASK) return;
  const [status, use] = code === OK ? (['SUCCESS', 'useful'] as const) : (['ERROR', 'wasted'] as const);
  player.task(status, use, asking?.tokens ?? 0);
}
