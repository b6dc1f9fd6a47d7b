import { type LocalSystem, modelUrl } from './system.ts';
import { takeSnapshot, wayOf } from './way.ts';

/** What came of a task, ready to be printed. */
export interface TaskReport {
  output: string;
  status: string;
  taskId: string;
  latencyMs: number;
  way: string[];
}

/**
 * Sends one task through the gateway of a running system and finds out which way it took.
 *
 * @throws Error with the gateway's message if the task failed
 */
export async function runTask(system: LocalSystem, input: string, agentType: string): Promise<TaskReport> {
  const before = await takeSnapshot(system);
  const answered = await fetch(`http://127.0.0.1:${system.gateway.port}/api/v1/tasks`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ input, agent_type: agentType }),
  });
  const body = (await answered.json()) as Record<string, unknown>;
  if (!answered.ok) {
    const { code, message, reason } = body['error'] as Record<string, string>;
    const why = reason === undefined ? '' : `, ${reason}`;
    throw new Error(`the task failed: ${message} (HTTP ${answered.status}, ${code}${why})`);
  }
  const taskId = String(body['task_id']);
  const way = wayOf(system, before, await takeSnapshot(system));
  const asked = await timesAsked(system, taskId);
  if (asked !== undefined) way.push(`  → the offline provider (${modelUrl(system.model)}), asked ${asked}`);
  return {
    output: String(body['output']),
    status: String(body['status']),
    taskId,
    latencyMs: Number(body['latency_ms']),
    way,
  };
}

/** How often the offline provider was asked for a task; undefined for any other provider. */
async function timesAsked({ model }: LocalSystem, taskId: string): Promise<string | undefined> {
  if (model.kind !== 'offline') return undefined;
  const stats = await fetch(`http://127.0.0.1:${model.port}/control/stats`);
  const { by_task: byTask } = (await stats.json()) as { by_task: Record<string, number> };
  const times = byTask[taskId] ?? 0;
  return times === 1 ? 'once' : `${times} times`;
}
