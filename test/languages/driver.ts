// Starts the ends of the calls and speaks with them by lines; see README.md.
import { createInterface } from 'node:readline';
import type { Test } from 'tap';
import { canConnect } from '../../scripts/harness/net.ts';
import { PATIENCE_MS } from '../../scripts/harness/patience.ts';
import { startProcess, type TestProcess } from '../../scripts/harness/process.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';

export type Command = readonly [program: string, ...args: string[]];

/** Values by their names; a name with several values is given several times. */
export type Options = Readonly<Record<string, string | number | readonly string[]>>;

/** For calls that never end: some ends leave each other waiting, with or without a sidecar. */
const CALL_LIMIT_MS = 20_000;

/** What a call came to, as the client tells it. */
export interface End {
  readonly code: string;
  readonly message: string;
  readonly sizes: string;
  readonly crc: string;
  /** `i.NAME=VALUE` and `t.NAME=VALUE`, sorted. */
  readonly metadata: readonly string[];
}

export class Client {
  private readonly process: TestProcess;
  private readonly waiting = new Map<string, (line: string) => void>();
  private readonly said = new Map<string, string>();
  private calls = 0;

  constructor(t: Pick<Test, 'teardown'>, [program, ...args]: Command, port: number) {
    this.process = startProcess(t, program, [...args, `${port}`], { stdin: true });
    createInterface({ input: this.process.child.stdout! }).on('line', (line) => this.onLine(line));
  }

  /** Begins a call and gives its id. */
  begin(kind: string, options: Options = {}): string {
    const id = `c${(this.calls += 1)}`;
    const words = Object.entries(options).flatMap(([name, values]) =>
      [values].flat().map((value) => `${name}=${encode(`${value}`)}`),
    );
    this.write([id, kind, ...words].join(' '));
    return id;
  }

  async call(kind: string, options: Options = {}): Promise<End> {
    return this.end(this.begin(kind, options));
  }

  async end(id: string): Promise<End> {
    const line = await this.line(`${id} end`);
    const words = line.split(' ').slice(2);
    const value = (name: string): string =>
      decodeURIComponent(words.find((word) => word.startsWith(`${name}=`))?.slice(name.length + 1) ?? '');
    const metadata = words.filter((word) => /^[it]\./.test(word)).sort();
    return {
      code: value('code'),
      message: value('message'),
      sizes: value('sizes'),
      crc: value('crc'),
      metadata,
    };
  }

  async held(id: string): Promise<void> {
    await this.line(`${id} held`);
  }

  go(id: string): void {
    this.write(`go ${id}`);
  }

  async stop(): Promise<void> {
    this.process.kill('SIGKILL');
    await this.process.ended;
  }

  private write(line: string): void {
    this.process.child.stdin?.write(`${line}\n`);
  }

  private onLine(line: string): void {
    const [id, what] = line.split(' ');
    const key = `${id} ${what}`;
    const waiting = this.waiting.get(key);
    this.waiting.delete(key);
    if (waiting === undefined) this.said.set(key, line);
    else waiting(line);
  }

  private line(key: string): Promise<string> {
    const said = this.said.get(key);
    if (said !== undefined) return Promise.resolve(said);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () =>
          reject(new Error(`no "${key}" of the client, which said:\n${this.process.logs().slice(-2_000)}`)),
        CALL_LIMIT_MS,
      );
      this.waiting.set(key, (line) => {
        clearTimeout(timer);
        resolve(line);
      });
    });
  }
}

export class Server {
  readonly port: number;
  private readonly t: Pick<Test, 'teardown'>;
  private readonly command: Command;
  private process: TestProcess | undefined;

  constructor(t: Pick<Test, 'teardown'>, command: Command, port: number) {
    this.t = t;
    this.command = command;
    this.port = port;
  }

  async start(): Promise<void> {
    const [program, ...args] = this.command;
    const started = startProcess(this.t, program, [...args, `${this.port}`]);
    this.process = started;
    await waitUntil(`${program} listened`, async () => {
      if (started.child.exitCode !== null)
        throw new Error(`${program} ended:\n${started.logs().slice(-2_000)}`);
      return /^listening$/m.test(started.logs()) && (await canConnect(this.port));
    });
  }

  said(line: string): boolean {
    return this.process?.logs().split('\n').includes(line) ?? false;
  }

  /** Waits for the process to end by itself. */
  async ended(): Promise<boolean> {
    const { child } = this.process!;
    return waitUntil('the server ended', () => child.exitCode !== null, { limitMs: PATIENCE_MS }).then(
      () => true,
      () => false,
    );
  }

  async stop(): Promise<void> {
    this.process?.kill('SIGKILL');
    await this.process?.ended;
  }
}

function encode(value: string): string {
  return encodeURIComponent(value).replace(/[!'()*,]/g, (c) =>
    c === ',' ? c : `%${c.charCodeAt(0).toString(16)}`,
  );
}
