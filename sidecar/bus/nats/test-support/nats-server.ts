// A real NATS server with JetStream, for one test.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { freePort } from '../../../../scripts/harness/free-port.ts';
import { startProcess, type TestProcess } from '../../../../scripts/harness/process.ts';
import { requireTool } from '../../../../scripts/harness/tool.ts';
import { waitUntil } from '../../../../scripts/harness/wait-until.ts';

export interface NatsServer {
  readonly port: number;
  readonly address: string;
  readonly process: TestProcess;
  /** Kills it with -9, and starts it again on what it had stored. */
  kill(): Promise<void>;
  restart(): Promise<void>;
}

/** @param config more of the server's configuration, in its own language */
export async function startNats(t: Pick<Test, 'teardown'>, config = ''): Promise<NatsServer> {
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-nats-'));
  const port = await freePort();
  const file = join(folder, 'nats.conf');
  writeFileSync(
    file,
    `listen: "127.0.0.1:${port}"\njetstream { store_dir: "${join(folder, 'store')}" }\n${config}\n`,
  );
  const start = async (): Promise<TestProcess> => {
    const started = startProcess(t, requireTool('nats-server'), ['-c', file]);
    await waitUntil('NATS listens', () => accepts(port)).catch((error: unknown) => {
      throw new Error(`NATS does not listen: ${started.logs()}`, { cause: error });
    });
    return started;
  };
  let running = await start();
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return {
    port,
    address: `127.0.0.1:${port}`,
    get process() {
      return running;
    },
    async kill() {
      running.kill('SIGKILL');
      await running.ended;
    },
    async restart() {
      running = await start();
    },
  };
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(port, '127.0.0.1');
    // It says INFO when it is ready for clients.
    socket.once('data', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
    socket.once('close', () => resolve(false));
  });
}
