/** What lies outside for the attacks to find: files, sockets and a process. Everything is made for them, and goes afterwards. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type ListenOptions, type Server } from 'node:net';
import { join } from 'node:path';
import { runUser } from './sandboxed-run.ts';

export interface Canary {
  /** Arguments of `confine probe`. */
  readonly arguments: readonly string[];
  /** Attacks that arrived here, whatever their maker says; it ends the victim. */
  arrived(): Promise<string[]>;
  close(): void;
}

function giveAway(path: string): void {
  chmodSync(path, 0o777);
  if (process.getuid?.() === 0) chownSync(path, runUser, runUser);
}

/** @param folder an existing folder that every user may enter */
export async function layOut(confine: string, folder: string): Promise<Canary> {
  const outside = mkdtempSync(join(folder, 'canary-'));
  const abstract = `outrigger-canary-${process.pid}-${outside.slice(-6)}`;
  const servers: Server[] = [];
  let connections = 0;
  let victim: ChildProcess | undefined;
  const listen = async (to: ListenOptions): Promise<Server> => {
    const server = createServer((socket) => {
      connections++;
      socket.destroy();
    });
    servers.push(server);
    server.listen(to);
    await once(server, 'listening');
    return server;
  };
  const close = () => {
    for (const server of servers) server.close();
    victim?.stdin?.end();
    victim?.kill('SIGKILL');
    rmSync(outside, { recursive: true, force: true });
  };
  try {
    mkdirSync(join(outside, 'neighbour'));
    for (const name of ['secret', 'unneeded', 'neighbour/file'])
      writeFileSync(join(outside, name), 'a secret of the runner\n', { mode: 0o666 });
    const tcp = await listen({ port: 0, host: '127.0.0.1' });
    const { port } = tcp.address() as { port: number };
    // The machine may have no IPv6, or the port may be taken there.
    await listen({ port, host: '::1' }).catch(() => servers.pop());
    await listen({ path: join(outside, 'socket') });
    await listen({ path: `\0${abstract}` }).catch(() => servers.pop());
    // Whoever may enter the folder may change what is in it: only the walls keep a run out.
    for (const name of ['', 'neighbour', 'socket', 'secret', 'unneeded', 'neighbour/file'])
      giveAway(join(outside, name));

    victim = spawn(confine, ['victim'], {
      cwd: outside,
      env: { OUTRIGGER_CANARY: 'a secret in an environment' },
      stdio: ['pipe', 'pipe', 'ignore'],
      ...(process.getuid?.() === 0 ? { uid: runUser, gid: runUser } : {}),
    });
    await once(victim, 'spawn');
    const ended = once(victim, 'close');
    let said = '';
    victim.stdout!.on('data', (text: Buffer) => {
      said += text.toString();
    });
    await Promise.race([once(victim.stdout!, 'data'), ended]);
    const [pid = '0', secret = '0'] = said.trim().split(' ');
    return {
      arguments: [
        ...['--outside', outside, '--abstract', abstract, '--port', String(port)],
        ...['--victim', pid, '--secret', secret, '--runner', String(process.pid)],
      ],
      async arrived() {
        victim?.stdin?.end();
        await ended;
        const found = said.includes('all') ? ['signal-all'] : [];
        if (said.includes('one')) found.push('signal-process');
        if (connections > 0) found.push('connect-tcp');
        return found;
      },
      close,
    };
  } catch (error) {
    close();
    throw error;
  }
}
