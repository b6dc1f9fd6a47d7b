/** Looks at the bus without making anything there: whether NATS answers, or whether the file's folder can be written. */
import { accessSync, constants, statSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { busPlace } from '../../bus/bus-url.ts';
import type { Path } from '../../config/problems.ts';
import { isLiteral, parseAddress } from '../../net/address.ts';
import { unresolved } from './endpoint.ts';
import { type LiveResult, LOOK_MS, ok, problem, within } from './finding.ts';

const PATH: Path = ['bus', 'url'];
/** With which every NATS server greets a client, before TLS and credentials. */
const GREETING = 'INFO ';

/** Looks at each server of `bus.url`; nothing for a sidecar without a bus. */
export async function lookAtBus(url: string | undefined): Promise<readonly LiveResult[]> {
  if (url === undefined) return [];
  const place = busPlace(url);
  if (place.engine === 'local') return [lookAtFile(place.path)];
  return Promise.all(place.servers.map((server) => lookAtServer(server.replace(/^tls:\/\//, ''))));
}

/** The sidecar makes the folders that are missing: the nearest one that is there must let it. */
function lookAtFile(file: string): LiveResult {
  const folder = dirname(file);
  for (let nearest = folder; ; nearest = dirname(nearest)) {
    try {
      accessSync(nearest, constants.W_OK);
      if (!statSync(nearest).isDirectory())
        return problem(PATH, file, `${nearest} is no folder`, 'name a file in a folder');
      return ok(PATH, file, `${nearest} can be written`);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT' && nearest !== dirname(nearest)) continue;
      const message = `its folder can't be written: ${code} of ${nearest}`;
      return problem(PATH, file, message, 'give the user of this process the folder, or name another file');
    }
  }
}

async function lookAtServer(address: string): Promise<LiveResult> {
  const where = parseAddress(address);
  if (where.kind === 'unix') return problem(PATH, address, 'is no server', 'write nats://HOST:4222');
  const unknown = isLiteral(where.host) ? undefined : await unresolved(PATH, where.host);
  if (unknown !== undefined) return unknown;
  const socket = connect({ host: where.host, port: where.port });
  const failure = await within(LOOK_MS, greetingOf(socket), 'it gives no answer').finally(() =>
    socket.destroy(),
  );
  if (failure === undefined) return ok(PATH, address, 'a NATS server answers');
  return problem(PATH, address, failure, 'start NATS there, correct the address, or open the network to it');
}

/** Resolves with what is wrong; undefined when a NATS server has greeted. */
function greetingOf(socket: Socket): Promise<string | undefined> {
  return new Promise((resolve) => {
    socket.once('error', (error) => resolve(`connecting failed: ${error.message}`));
    socket.once('close', () => resolve('it closes the connection without an answer'));
    socket.once('data', (bytes: Buffer) => {
      const isNats = bytes.subarray(0, GREETING.length).toString('latin1') === GREETING;
      resolve(isNats ? undefined : 'what answers there is no NATS server');
    });
  });
}
