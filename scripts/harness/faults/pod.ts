// An agent's pod: a replica and the proxy beside it, two processes with fixed addresses.
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

/** A program in the place of the replica, without scripted faults. */
export interface OtherApp {
  readonly program: string;
  /** @param listen `host:port` */
  env(listen: string): Record<string, string>;
}

export interface PodOptions {
  readonly name: string;
  /** The folder of its record. */
  readonly folder: string;
  readonly host?: string;
  /** The port for callers; a port of its own by default. */
  readonly port?: number;
  readonly app?: OtherApp;
}

export class Pod {
  readonly name: string;
  /** `host:port` for other pods. */
  readonly address: string;
  private readonly owner: Owner;
  private readonly kind: ProxyKind;
  private readonly settings: ProxySettings;
  private readonly host: string;
  private readonly appPort: number;
  private readonly controlPort: number;
  private readonly recordFile: string;
  private readonly otherApp: OtherApp | undefined;
  private behaviour: Partial<Behaviour> = {};
  app!: TestProcess;
  proxy!: RunningProxy;

  private constructor(
    owner: Owner,
    kind: ProxyKind,
    settings: ProxySettings,
    { name, folder, host = '127.0.0.1', app }: PodOptions,
    [port, appPort, controlPort]: readonly [number, number, number],
  ) {
    this.owner = owner;
    this.kind = kind;
    this.name = name;
    this.host = host;
    this.otherApp = app;
    this.address = `${host}:${port}`;
    this.appPort = appPort;
    this.controlPort = controlPort;
    this.recordFile = join(folder, `${name}.jsonl`);
    writeFileSync(this.recordFile, '');
    this.settings = { ...settings, name, app: this.appAddress, inbound: this.address };
  }

  /** @param settings the settings of its proxy; the pod adds its own */
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

  private get appAddress(): string {
    return `${this.host}:${this.appPort}`;
  }

  get runs(): Run[] {
    return this.readRuns();
  }

  readRuns(travelMs?: number): Run[] {
    return readRuns(this.recordFile, this.name, travelMs);
  }

  /** Starts both at the same time, like a kubelet. */
  async restart(): Promise<void> {
    await Promise.all([this.startApp(), this.startProxy()]);
  }

  async startApp(): Promise<void> {
    const other = this.otherApp;
    const ports = [this.appPort, this.controlPort].map(String);
    const [args, env] =
      other === undefined
        ? [[program, this.name, this.host, ...ports, this.recordFile], { NODE_ENV: 'test' }]
        : [[other.program], other.env(this.appAddress)];
    this.app = startProcess(this.owner, process.execPath, args, { env });
    const port = other === undefined ? this.controlPort : this.appPort;
    await waitUntil(`${this.name} listened`, () => canConnect(port));
    if (other === undefined) await this.sendBehaviour();
  }

  async startProxy(): Promise<void> {
    this.proxy = await this.kind.start(this.owner, this.settings);
  }

  /** Restores the initial state: both processes run, the replica behaves normally, and its record is empty. */
  async renew(): Promise<void> {
    const { app, proxy } = this;
    await Promise.all([
      hasEnded(app) ? this.startApp() : undefined,
      hasEnded(proxy.process) ? this.startProxy() : undefined,
    ]);
    await this.behave(USUAL);
    truncateSync(this.recordFile);
  }

  /** Changes the replica's behaviour; a restart keeps it. */
  async behave(behaviour: Partial<Behaviour>): Promise<void> {
    this.behaviour = { ...this.behaviour, ...behaviour };
    await this.sendBehaviour();
  }

  private async sendBehaviour(): Promise<void> {
    const url = `http://127.0.0.1:${this.controlPort}/`;
    const answer = await fetch(url, { method: 'POST', body: JSON.stringify(this.behaviour) });
    await answer.text();
  }

  /** Kills the agent (kill -9); its proxy keeps running. */
  async killApp(): Promise<void> {
    const atMs = Date.now();
    this.app.kill('SIGKILL');
    await this.app.ended;
    this.noteDeath('process_killed', atMs);
  }

  /** Kills agent and proxy (kill -9): no process listens there any more. */
  async kill(): Promise<void> {
    const atMs = Date.now();
    this.proxy.process.kill('SIGKILL');
    this.app.kill('SIGKILL');
    await Promise.all([this.proxy.process.ended, this.app.ended]);
    this.noteDeath('process_killed', atMs);
  }

  /** Asks both to end at the same time, like a kubelet; both have ended when this resolves. */
  async leave(): Promise<void> {
    await Promise.all([this.proxy.leave(), this.app.stop()]);
    this.noteDeath('process_died', Date.now());
  }

  /** Records that its runs ended with it; a killed process can't. */
  private noteDeath(event: 'process_died' | 'process_killed', atMs: number): void {
    const { pid } = this.app;
    append(this.recordFile, { atMs, pid, run: 0, task: '', event });
  }
}

function hasEnded({ child }: TestProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}
