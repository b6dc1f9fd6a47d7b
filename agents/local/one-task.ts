/** Sends one task through the local system and reports its route. */
import { describeModelFailure, type ModelFailure } from '../protocol/model-failure.ts';
import { routeOf, takeSnapshot } from './route.ts';
import { type LocalSystem, modelUrl } from './system.ts';

/** The result of a task, ready to print. */
export interface TaskReport {
  /** The answer, or the error. */
  output: string;
  /** The agent's status; `ERROR` when the task had no answer. */
  status: string;
  taskId: string;
  /** Until the gateway answered. */
  latencyMs: number;
  route: string[];
}

/** The printed parts of the gateway's answer. */
interface Answer {
  task_id?: string;
  output?: string;
  status?: string;
  latency_ms?: number;
  model?: ModelFailure;
  error?: { code: string; message: string; reason?: string; task_id: string; model?: ModelFailure };
}

/** Sends one task through the gateway of a running system and determines its route, also when it fails. */
export async function runTask(system: LocalSystem, input: string, agentType: string): Promise<TaskReport> {
  const before = await takeSnapshot(system);
  const startedMs = performance.now();
  const answered = await fetch(`http://127.0.0.1:${system.gateway.port}/api/v1/tasks`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ input, agent_type: agentType }),
  });
  const { error, ...body } = (await answered.json()) as Answer;
  const taskId = String(error?.task_id ?? body.task_id);
  const route = routeOf(system, before, await takeSnapshot(system));
  route.push(...(await modelStep(system, taskId, error?.model ?? body.model)));
  return {
    output:
      error === undefined ? String(body.output) : `the task failed: ${describeError(error, answered.status)}`,
    status: error === undefined ? String(body.status) : 'ERROR',
    taskId,
    latencyMs: body.latency_ms ?? Math.round(performance.now() - startedMs),
    route,
  };
}

function describeError({ code, message, reason }: NonNullable<Answer['error']>, httpStatus: number): string {
  return `${message} (HTTP ${httpStatus}, ${code}${reason === undefined ? '' : `, ${reason}`})`;
}

/** The last step of the route: the provider's part. */
async function modelStep(
  system: LocalSystem,
  taskId: string,
  failure: ModelFailure | undefined,
): Promise<string[]> {
  const url = modelUrl(system.model);
  const said = failure === undefined ? '' : `: ${describeModelFailure(failure)}`;
  if (system.model.kind !== 'offline') return failure === undefined ? [] : [`  → ${url}${said}`];
  return [
    `  → the offline provider (${url}) received ${await requestCount(system.model.port, taskId)}${said}`,
  ];
}

/** The number of requests that the offline provider received for a task. */
async function requestCount(port: number, taskId: string): Promise<string> {
  const stats = await fetch(`http://127.0.0.1:${port}/control/stats`);
  const { by_task: byTask } = (await stats.json()) as { by_task: Record<string, number> };
  // The ids of steps begin with that of their task.
  const count = Object.entries(byTask)
    .filter(([id]) => id === taskId || id.startsWith(`${taskId}/`))
    .reduce((sum, [, requests]) => sum + requests, 0);
  return count === 1 ? '1 request' : `${count} requests`;
}
