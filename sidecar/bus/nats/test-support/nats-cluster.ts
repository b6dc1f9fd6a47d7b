// Three NATS servers of one cluster with JetStream, for one test.
import type { Test } from 'tap';
import { freePort } from '../../../../scripts/harness/free-port.ts';
import { type NatsServer, startNats } from './nats-server.ts';

export interface NatsCluster {
  readonly servers: ReadonlyMap<string, NatsServer>;
  readonly addresses: readonly string[];
}

export async function startNatsCluster(t: Pick<Test, 'teardown'>): Promise<NatsCluster> {
  const names = ['one', 'two', 'three'];
  const ports = await Promise.all(names.map(() => freePort()));
  const routes = ports.map((port) => `"nats://127.0.0.1:${port}"`).join(', ');
  const started = await Promise.all(
    names.map((name, at) =>
      startNats(
        t,
        `server_name: ${name}\ncluster { name: outrigger, listen: "127.0.0.1:${ports[at]}", routes: [${routes}] }`,
      ),
    ),
  );
  return {
    servers: new Map(names.map((name, at) => [name, started[at]!])),
    addresses: started.map(({ address }) => address),
  };
}
