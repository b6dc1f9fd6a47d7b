// A pod that runs tasks of a bus: a sidecar and an agent, each a process, which a test kills.
import { appendFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import { freePort } from '../../scripts/harness/free-port.ts';
import { startProcess, type TestProcess } from '../../scripts/harness/process.ts';
import { type Sidecar, startSidecar } from '../../scripts/harness/sidecar.ts';

type Section = Record<string, unknown>;
type Teardown = Pick<Test, 'teardown'>;

const AGENT = join(import.meta.dirname, 'fault-agent.ts');

/** What all agents of a test have done, in order. */
export class Diary {
  readonly file: string;

  constructor(file: string) {
    this.file = file;
    appendFileSync(file, '');
  }

  /** Lines such as `begin task-1 4711 1767225600000`: what, which task, the agent's process, when. */
  get lines(): readonly string[] {
    return readFileSync(this.file, 'utf8').split('\n').filter(Boolean);
  }

  count(what: string, id?: string): number {
    return this.lines.filter((line) => line.startsWith(id === undefined ? `${what} ` : `${what} ${id} `))
      .length;
  }
}

export interface BusPod {
  /** The process that runs now. */
  readonly sidecar: Sidecar;
  readonly agent: TestProcess;
  /** Kills the sidecar alone, and starts the next one. Resolves when that is live. */
  killSidecar(): Promise<void>;
  /** Kills both with -9, as a node does that is lost. */
  kill(): Promise<void>;
  /** Kills the agent alone; a kubelet starts the next one. */
  killAgent(): Promise<void>;
  /** Ends both in order, as a kubelet does. */
  stop(): Promise<number | NodeJS.Signals>;
}

export interface PodOptions {
  readonly url: string;
  readonly diary: Diary;
  readonly consume?: Section;
  readonly bus?: Section;
  readonly drain?: Section;
}

export async function startPod(
  t: Teardown,
  { url, diary, consume = {}, bus = {}, drain = {} }: PodOptions,
): Promise<BusPod> {
  const port = await freePort();
  let isOver = false;
  // Agents of one pod follow each other, so that its own end must come first.
  const ends: (() => unknown)[] = [];
  const owner: Teardown = { teardown: (end) => void ends.push(end) };
  let agent = startAgent();

  function startAgent(): TestProcess {
    const started = startProcess(owner, process.execPath, [AGENT, String(port), diary.file]);
    // A kubelet starts an agent again that has crashed.
    void started.ended.then(() => {
      if (!isOver && agent === started) agent = startAgent();
    });
    return started;
  }

  t.teardown(async () => {
    isOver = true;
    for (const end of ends) await end();
  });
  const startOne = (): Promise<Sidecar> =>
    startSidecar(
      owner,
      {
        name: 'research',
        inbound: { app: `127.0.0.1:${port}` },
        drain: { delay: '0s', timeout: '20s', ...drain },
        bus: { url, ...bus, consume: { agent_types: ['research'], max_runs: 10, ...consume } },
      },
      { until: 'live' },
    );
  let sidecar = await startOne();
  return {
    get sidecar() {
      return sidecar;
    },
    async killSidecar() {
      sidecar.kill('SIGKILL');
      await sidecar.ended;
      sidecar = await startOne();
    },
    get agent() {
      return agent;
    },
    async kill() {
      isOver = true;
      sidecar.kill('SIGKILL');
      agent.kill('SIGKILL');
      await Promise.all([sidecar.ended, agent.ended]);
    },
    async killAgent() {
      const { ended } = agent;
      agent.kill('SIGKILL');
      await ended;
    },
    async stop() {
      const code = await sidecar.stop();
      isOver = true;
      agent.kill('SIGTERM');
      await agent.ended;
      return code;
    },
  };
}
