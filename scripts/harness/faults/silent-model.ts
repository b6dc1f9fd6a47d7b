// A model provider that accepts every request, answers none, and notices cancelled ones.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Owner } from './proxy.ts';

export interface SilentModel {
  readonly url: string;
  /** Requests with a waiting client. */
  readonly open: number;
}

export async function startSilentModel(owner: Owner): Promise<SilentModel> {
  let open = 0;
  const server = createServer((request, response) => {
    request.resume();
    open++;
    response.on('close', () => {
      open--;
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  owner.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}/v1`,
    get open() {
      return open;
    },
  };
}
