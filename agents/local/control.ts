import { createServer, type Server, type ServerResponse } from 'node:http';
import { type ReplicaAction, type Replicas, replicaActions } from './replicas.ts';
import type { Sender } from './sender.ts';
import type { LocalSystem } from './system.ts';
import { readSystem } from './system-state.ts';

/**
 * What the page of the local system sees and does, on a Unix socket that only this user can reach: no browser gets
 * here but through the gateway, which knows whose pages may.
 *
 *   GET  /state                    how everything is
 *   POST /replicas/NAME/ACTION     kill, stop, slow or restore an agent
 *   POST /sending/TYPE             sends tasks to agents of that type, one after the other; `off` ends that
 *
 * @param path where the socket is made
 */
export async function startControl(
  path: string,
  system: LocalSystem,
  replicas: Replicas,
  sender: Sender,
): Promise<Server> {
  const server = createServer((request, response) => {
    request.resume();
    answer(`${request.method} ${request.url}`, system, replicas, sender).then(
      (body) => send(response, body === undefined ? 404 : 200, body ?? { error: 'no such page' }),
      (error: Error) => send(response, 500, { error: error.message.split('\n', 1)[0] }),
    );
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, resolve);
  });
  // It must not keep the starter from ending.
  server.unref();
  return server;
}

/** Undefined when there is nothing of that name. */
async function answer(
  asked: string,
  system: LocalSystem,
  replicas: Replicas,
  sender: Sender,
): Promise<object | undefined> {
  const report = async () => ({ ...(await readSystem(system, replicas)), sent: sender.report() });
  if (asked === 'GET /state') return report();
  const to = /^POST \/sending\/([a-z0-9-]+)$/.exec(asked)?.[1];
  if (to === 'off') sender.stop();
  else if (system.agents.some(({ type }) => type === to)) sender.start(to!);
  if (to !== undefined) return report();
  const [, name = '', action = ''] = /^POST \/replicas\/([a-z0-9-]+)\/([a-z]+)$/.exec(asked) ?? [];
  if (!replicas.has(name) || !isAction(action)) return undefined;
  await replicas.act(name, action);
  return report();
}

function isAction(text: string): text is ReplicaAction {
  return (replicaActions as readonly string[]).includes(text);
}

function send(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
}
