// `outrigger scaler` as a process, and KEDA as its client: grpcio in Python.

import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Test } from 'tap';
import { freePort } from '../../scripts/harness/free-port.ts';
import { startProcess, type TestProcess } from '../../scripts/harness/process.ts';
import { requireTool } from '../../scripts/harness/tool.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';

const root = join(import.meta.dirname, '..', '..');
const protos = join(root, 'proto');

export interface ScalerProcess extends TestProcess {
  readonly address: string;
  readonly metricsUrl: string;
}

/** Resolves when it serves. */
export async function startScaler(
  t: Pick<Test, 'teardown'>,
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<ScalerProcess> {
  const [port, health, metrics] = [await freePort(), await freePort(), await freePort()];
  const listen = [
    ['--listen', `127.0.0.1:${port}`],
    ['--health', `127.0.0.1:${health}`],
    ['--metrics', `127.0.0.1:${metrics}`],
  ].flat();
  const started = startProcess(
    t,
    process.execPath,
    [join(root, 'sidecar', 'main.ts'), 'scaler', ...listen, ...args],
    { cwd: root, env: { NODE_ENV: 'test', ...env } },
  );
  let isOver = false;
  void started.ended.then(() => {
    isOver = true;
  });
  await waitUntil(
    'the scaler is ready',
    async () => isOver || (await fetch(`http://127.0.0.1:${health}/healthz/ready`)).ok,
  );
  if (isOver) throw new Error(`the scaler has ended: ${started.logs()}`);
  return { ...started, address: `127.0.0.1:${port}`, metricsUrl: `http://127.0.0.1:${metrics}/metrics` };
}

export type Metadata = Readonly<Record<string, string>>;

export interface KedaAnswer {
  readonly id: number;
  readonly code: string;
  readonly details?: string;
  readonly result?: boolean;
  readonly metrics?: readonly { readonly name: string; readonly whole: number; readonly float: number }[];
}

/** A client on grpcio; needs the tool `python`. */
export class Keda {
  private readonly client: TestProcess;
  private readonly answers: KedaAnswer[] = [];
  private next = 1;

  constructor(t: Pick<Test, 'teardown'>, address: string, tls: readonly string[] = []) {
    const script = join(import.meta.dirname, 'python', 'keda.py');
    this.client = startProcess(t, requireTool('python'), [script, address, protos, ...tls], { stdin: true });
    createInterface({ input: this.client.child.stdout! }).on('line', (line) => {
      if (line.startsWith('{')) this.answers.push(JSON.parse(line) as KedaAnswer);
    });
  }

  /** @returns the id, by which `told` finds its messages */
  begin(method: string, scalerMetadata: Metadata, more: object = {}): number {
    const id = this.next++;
    const ref = { name: 'research-agent', namespace: 'agents', scalerMetadata };
    this.client.child.stdin!.write(`${JSON.stringify({ id, method, ref, ...more })}\n`);
    return id;
  }

  async ask(method: string, metadata: Metadata, more: object = {}): Promise<KedaAnswer> {
    const id = this.begin(method, metadata, more);
    return waitUntil(`an answer to ${method}`, () => {
      if (this.client.child.exitCode !== null) throw new Error(this.client.logs());
      return this.answers.find((answer) => answer.id === id);
    });
  }

  /** What a stream has said. */
  told(id: number): (boolean | string)[] {
    return this.answers
      .filter((answer) => answer.id === id)
      .map(({ code, result }) => (code === 'OK' ? result! : code));
  }
}
