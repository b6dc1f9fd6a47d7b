// A local system in one of its layouts, as `npm start -- --layout NAME` runs it, and the load under which its replicas are killed.
import type { Test } from 'tap';
import { layouts, typesOf } from '../../agents/local/layouts/all.ts';
import type { Layout } from '../../agents/local/layouts/layout.ts';
import { type Run, runStart } from '../../agents/local/test-support.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';

type Action = 'kill' | 'stop' | 'slow' | 'restore';

/** What the page reads of the system. */
interface PageState {
  readonly replicas: readonly {
    readonly name: string;
    readonly state: string;
    readonly dashboard: string;
    readonly canBeSlow: boolean;
  }[];
  readonly llm: PageState['replicas'];
  readonly gateway: { readonly dashboard: string };
  readonly sent: {
    readonly total: number;
    readonly succeeded: number;
    readonly recent: readonly { readonly taskId: string; readonly agent: string; readonly state: string }[];
  };
}

interface EndedTask {
  readonly task_id: string;
  readonly state: string;
  readonly status?: string;
  readonly output?: string;
}

export interface LayoutSystem {
  readonly layout: Layout;
  readonly types: readonly string[];
  readonly url: string;
  readonly run: Run;
  get(path: string): Promise<Response>;
  post(path: string, body?: object, headers?: Record<string, string>): Promise<Response>;
  state(): Promise<PageState>;
  /** Presses a button of the page. */
  act(name: string, action: Action): Promise<void>;
  /** Submits a task to the bus; resolves with its id. */
  submit(agentType: string, input: string): Promise<string>;
  ended(id: string): Promise<EndedTask>;
}

export function layoutOf(name: string): Layout {
  const layout = layouts.find((one) => one.name === name);
  if (layout === undefined)
    throw new Error(`no layout ${name}; there are ${layouts.map((one) => one.name).join(', ')}`);
  return layout;
}

export async function startLayout(
  t: Pick<Test, 'teardown'>,
  name: string,
  env: Record<string, string> = {},
): Promise<LayoutSystem> {
  const layout = layoutOf(name);
  const run = runStart(t as Test, ['--layout', name], { PORT: '', ...env });
  const url = await waitUntil('the system runs', () => {
    if (run.child.exitCode !== null) throw new Error(run.output());
    return /Ctrl-C stops it/.test(run.output()) && /page +(http:\S+)\//.exec(run.output())?.[1];
  });
  const get = (path: string) => fetch(`${url}${path}`);
  const post = (path: string, body: object = {}, headers: Record<string, string> = {}) =>
    fetch(`${url}${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify(body),
    });
  const json = async <T>(response: Response): Promise<T> => {
    const text = await response.text();
    if (!response.ok) throw new Error(`${response.url} answered ${response.status}: ${text}`);
    return JSON.parse(text) as T;
  };
  return {
    layout,
    types: typesOf(layout),
    url,
    run,
    get,
    post,
    state: async () => json<PageState>(await get('/local/state')),
    act: async (replica, action) => void (await json(await post(`/local/replicas/${replica}/${action}`))),
    submit: async (agentType, input) => {
      const task = { agent_type: agentType, input };
      return (await json<EndedTask>(await post('/api/v1/tasks', task, { prefer: 'respond-async' }))).task_id;
    },
    ended: (id) =>
      waitUntil(`task ${id} has ended`, async () => {
        const task = await json<EndedTask>(await get(`/api/v1/tasks/${id}`));
        return !['queued', 'running'].includes(task.state) && task;
      }),
  };
}

export interface Kills {
  /** Replicas that were killed, in order. */
  readonly killed: readonly string[];
  readonly tasks: number;
  /** What was lost; empty when all is well. */
  readonly complaints: readonly string[];
}

/**
 * Kills replicas one after the other while tasks of all types are on their way, and begins each again while the next one is killed.
 *
 * @param perKill so many tasks begin before a replica is killed, and one while it is away
 */
export async function killUnderLoad(
  system: LayoutSystem,
  victims: readonly string[],
  perKill: number,
): Promise<Kills> {
  const { layout, submit, act } = system;
  const tasks: { id: string; agentType: string; near: string }[] = [];
  let asked = 0;
  const begin = async (near: string): Promise<void> => {
    const [agentType, input] = layout.questions[asked++ % layout.questions.length]!;
    tasks.push({ id: await submit(agentType, `${input} (${asked})`), agentType, near });
  };
  const back: Promise<void>[] = [];
  const complaints: string[] = [];
  for (const victim of victims) {
    await Promise.all(Array.from({ length: perKill }, () => begin(victim)));
    await act(victim, 'kill');
    await begin(victim);
    back.push(act(victim, 'restore').catch((error: Error) => void complaints.push(error.message)));
  }
  await Promise.all(back);
  for (const { id, agentType, near } of tasks) {
    const { state, status = '', output = '' } = await system.ended(id);
    const what = `the ${agentType} task ${id}, begun when ${near} was killed,`;
    if (state !== 'done' || !['SUCCESS', 'PARTIAL'].includes(status))
      complaints.push(`${what} ended ${state} ${status}: ${output}`);
    // A tool that was killed is a branch that failed, which the answer names; that of an agent is another matter.
    else if (/^- step \d+, ask_\w+: /m.test(output))
      complaints.push(`${what} lost the branch of an agent: ${output}`);
  }
  return { killed: victims, tasks: tasks.length, complaints };
}
