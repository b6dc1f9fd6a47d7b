// The Kubernetes API as far as the scaler needs it: lists of pods by a label, and patches of their annotations.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { Test } from 'tap';

const COST = 'controller.kubernetes.io/pod-deletion-cost';

export interface FakePods {
  readonly kubeconfig: string;
  /** The names of pods, with their addresses; of the label `app=research`, and ready. */
  readonly pods: Map<string, string>;
  /** The cost that each pod has. */
  readonly costs: Map<string, string>;
  /** Answers with this status instead of what is asked; 0 is as usual. */
  failWith: number;
}

export async function startFakePods(t: Pick<Test, 'teardown'>): Promise<FakePods> {
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-pods-'));
  const fake: FakePods = {
    kubeconfig: join(folder, 'kubeconfig'),
    pods: new Map(),
    costs: new Map(),
    failWith: 0,
  };
  const itemOf = ([name, ip]: [string, string]) => ({
    metadata: {
      name,
      uid: `uid-of-${name}`,
      namespace: 'agents',
      ...(fake.costs.has(name) ? { annotations: { [COST]: fake.costs.get(name) } } : {}),
    },
    status: { phase: 'Running', podIP: ip, conditions: [{ type: 'Ready', status: 'True' }] },
  });
  const server = createServer(async (request, response) => {
    const { pathname, searchParams } = new URL(request.url ?? '', 'http://api');
    const answer = (status: number, body: object): void => {
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    };
    const [, name] = /^\/api\/v1\/namespaces\/agents\/pods(?:\/(.+))?$/.exec(pathname) ?? [];
    if (fake.failWith !== 0) return answer(fake.failWith, { kind: 'Status' });
    if (request.method === 'GET' && name === undefined) {
      const items = searchParams.get('labelSelector') === 'app=research' ? [...fake.pods].map(itemOf) : [];
      return answer(200, { kind: 'PodList', apiVersion: 'v1', metadata: {}, items });
    }
    const ip = fake.pods.get(name ?? '');
    if (request.method !== 'PATCH' || ip === undefined) return answer(404, { kind: 'Status' });
    const { metadata } = JSON.parse(await text(request));
    if (metadata.uid !== `uid-of-${name}`) return answer(409, { kind: 'Status' });
    fake.costs.set(name!, metadata.annotations[COST]);
    answer(200, itemOf([name!, ip]));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
    rmSync(folder, { recursive: true, force: true });
  });
  const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  writeFileSync(
    fake.kubeconfig,
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'c', cluster: { server: address, 'insecure-skip-tls-verify': true } }],
      users: [{ name: 'u', user: {} }],
      contexts: [{ name: 'x', context: { cluster: 'c', user: 'u', namespace: 'agents' } }],
      'current-context': 'x',
    }),
  );
  return fake;
}
