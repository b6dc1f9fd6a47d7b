// An agent's pod: a replica and the proxy beside it, two processes on addresses that outlive them.
import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '../free-port.ts';
import { canConnect } from '../net.ts';
import { startProcess, type TestProcess } from '../process.ts';
import { waitUntil } from '../wait-until.ts';
import { type Behaviour, USUAL } from './behaviour.ts';
import type { Owner, ProxyKind, ProxySettings, RunningProxy } from './proxy.ts';
import { append, type Run, readRuns } from './run-record.ts';

const program = join(import.meta.dirname, 'replica.ts');

/** A program that takes the replica's place, and cannot be told to misbehave. */
export interface OtherApp {
  readonly program: string;
  /** @param listen `host:port` */
  env(listen: string): Record<string, string>;
}

export interface PodOptions {
  readonly name: string;
  /** For its record. */
  readonly folder: string;
  readonly host?: string;
  /** Where it is called; one of its own when absent. */
  readonly port?: number;
  readonly app?: OtherApp;
}

export class Pod {
  readonly name: string;
  /** `host:port` that other pods call. */
  readonly address: string;
  readonly #owner: Owner;
  readonly #kind: ProxyKind;
  readonly #settings: ProxySettings;
  readonly #host: string;
  readonly #appPort: number;
  readonly #controlPort: number;
  readonly #recordFile: string;
  readonly #otherApp: OtherApp | undefined;
  #behaviour: Partial<Behaviour> = {};
  app!: TestProcess;
  proxy!: RunningProxy;

  private constructor(
    owner: Owner,
    kind: ProxyKind,
    settings: ProxySettings,
    { name, folder, host = '127.0.0.1', app }: PodOptions,
    [port, appPort, controlPort]: readonly [number, number, number],
  ) {
    this.#owner = owner;
    this.#kind = kind;
    this.name = name;
    this.#host = host;
    this.#otherApp = app;
    this.address = `${host}:${port}`;
    this.#appPort = appPort;
    this.#controlPort = controlPort;
    this.#recordFile = join(folder, `${name}.jsonl`);
    writeFileSync(this.#recordFile, '');
    this.#settings = { ...settings, name, app: this.#appAddress, inbound: this.address };
  }

  /** @param settings of its proxy; what is the pod's own is filled in */
  static async start(
    owner: Owner,
    kind: ProxyKind,
    settings: ProxySettings,
    options: PodOptions,
  ): Promise<Pod> {
    const ports = [options.port ?? (await freePort()), await freePort(), await freePort()] as const;
    const pod = new Pod(owner, kind, settings, options, ports);
    await pod.restart();
    return pod;
  }

  get #appAddress(): string {
    return `${this.#host}:${this.#appPort}`;
  }

  get runs(): Run[] {
    return this.readRuns();
  }

  readRuns(travelMs?: number): Run[] {
    return readRuns(this.#recordFile, this.name, travelMs);
  }

  /** Starts both, as a kubelet does: at the same time. */
  async restart(): Promise<void> {
    await Promise.all([this.startApp(), this.startProxy()]);
  }

  async startApp(): Promise<void> {
    const other = this.#otherApp;
    const ports = [this.#appPort, this.#controlPort].map(String);
    const [args, env] =
      other === undefined
        ? [[program, this.name, this.#host, ...ports, this.#recordFile], { NODE_ENV: 'test' }]
        : [[other.program], other.env(this.#appAddress)];
    this.app = startProcess(this.#owner, process.execPath, args, { env });
    const port = other === undefined ? this.#controlPort : this.#appPort;
    await waitUntil(`${this.name} listened`, () => canConnect(port));
    if (other === undefined) await this.#sendBehaviour();
  }

  async startProxy(): Promise<void> {
    this.proxy = await this.#kind.start(this.#owner, this.#settings);
  }

  /** As it was when it started: its processes run, the replica does what is usual, and nothing is on record. */
  async renew(): Promise<void> {
    const { app, proxy } = this;
    await Promise.all([
      hasEnded(app) ? this.startApp() : undefined,
      hasEnded(proxy.process) ? this.startProxy() : undefined,
    ]);
    await this.behave(USUAL);
    truncateSync(this.#recordFile);
  }

  /** Changes what the replica does; kept when it is started anew. */
  async behave(behaviour: Partial<Behaviour>): Promise<void> {
    this.#behaviour = { ...this.#behaviour, ...behaviour };
    await this.#sendBehaviour();
  }

  async #sendBehaviour(): Promise<void> {
    const url = `http://127.0.0.1:${this.#controlPort}/`;
    const answer = await fetch(url, { method: 'POST', body: JSON.stringify(this.#behaviour) });
    await answer.text();
  }

  /** kill -9 of the agent; its proxy lives on. */
  async killApp(): Promise<void> {
    const atMs = Date.now();
    this.app.kill('SIGKILL');
    await this.app.ended;
    this.#noteDeath('process_killed', atMs);
  }

  /** kill -9 of agent and proxy: nothing listens there any more. */
  async kill(): Promise<void> {
    const atMs = Date.now();
    this.proxy.process.kill('SIGKILL');
    this.app.kill('SIGKILL');
    await Promise.all([this.proxy.process.ended, this.app.ended]);
    this.#noteDeath('process_killed', atMs);
  }

  /** Both are asked to go at the same time, as a kubelet does, and have gone when this resolves. */
  async leave(): Promise<void> {
    await Promise.all([this.proxy.leave(), this.app.stop()]);
    this.#noteDeath('process_died', Date.now());
  }

  /** What it was doing then ended with it; it can't say so itself. */
  #noteDeath(event: 'process_died' | 'process_killed', atMs: number): void {
    const { pid } = this.app;
    append(this.#recordFile, { atMs, pid, run: 0, task: '', event });
  }
}

function hasEnded({ child }: TestProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}
