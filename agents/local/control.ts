/** The control socket of the local system. */
import { createServer, type Server, type ServerResponse } from 'node:http';
import { type ReplicaAction, type Replicas, replicaActions } from './replicas.ts';
import type { Sender } from './sender.ts';
import type { LocalSystem } from './system.ts';
import { readSystem } from './system-state.ts';

/**
 * The API with which the page shows and changes the local system, on a Unix socket that only this user can reach: a
 * browser reaches it only through the gateway, which checks the origin of its requests.
 *
 *   GET  /state                    the state of the system
 *   POST /replicas/NAME/ACTION     kill, stop, slow or restore an agent
 *   POST /sending/TYPE             sends tasks to agents of that type, one after the other; `off` ends that
 *
 * @param path the path of the socket
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
  // The server must not keep the process alive.
  server.unref();
  return server;
}

/** Undefined for an unknown path. */
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
