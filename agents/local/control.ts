/** The control socket of the local system. */
import { createServer, type Server, type ServerResponse } from 'node:http';
import { Happenings } from './happenings.ts';
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
 *   GET  /tasks/TEXT               the latest sent tasks whose id contains the text
 *   POST /sending/WHEN             `on` sends tasks to the agents in turn, `off` ends that; `auto`, from each page that
 *                                  opens, sends them unless the user has paused them or they cost money
 *
 * @param path the path of the socket
 */
export async function startControl(
  path: string,
  system: LocalSystem,
  replicas: Replicas,
  sender: Sender,
): Promise<Server> {
  const happenings = new Happenings(system);
  const parts = { system, replicas, sender, happenings };
  const server = createServer((request, response) => {
    request.resume();
    answer(`${request.method} ${request.url}`, parts).then(
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

interface Parts {
  readonly system: LocalSystem;
  readonly replicas: Replicas;
  readonly sender: Sender;
  readonly happenings: Happenings;
}

const done: Readonly<Record<ReplicaAction, string>> = {
  kill: 'killed',
  stop: 'stopped',
  slow: 'slowed down',
  restore: 'restored',
};

/** Undefined for an unknown path. */
async function answer(
  asked: string,
  { system, replicas, sender, happenings }: Parts,
): Promise<object | undefined> {
  const report = async () => ({
    ...(await readSystem(system, replicas, happenings)),
    sent: sender.report(),
  });
  if (asked === 'GET /state') return report();
  const [, text] = /^GET \/tasks\/([\w-]{1,128})$/.exec(asked) ?? [];
  if (text !== undefined) return { tasks: sender.find(text) };
  const [, when] = /^POST \/sending\/(on|off|auto)$/.exec(asked) ?? [];
  if (when !== undefined) {
    if (when === 'on') sender.start();
    else if (when === 'off') sender.pause();
    else sender.startByItself();
    return report();
  }
  const [, name = '', action = ''] = /^POST \/replicas\/([a-z0-9-]+)\/([a-z]+)$/.exec(asked) ?? [];
  if (!replicas.has(name) || !isAction(action)) return undefined;
  happenings.say(`You ${done[action]} ${name}.`, action === 'restore' ? 'good' : 'warn');
  try {
    await replicas.act(name, action);
  } catch (error) {
    happenings.say(`${name} could not be ${done[action]}.`, 'bad');
    throw error;
  }
  return report();
}

function isAction(text: string): text is ReplicaAction {
  return (replicaActions as readonly string[]).includes(text);
}

function send(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
}
