// EndpointSlices, with the overlay for them applied: what sidecars may ask, and that they find what they ask for.
import { join } from 'node:path';
import t from 'tap';
import { parse } from 'yaml';
import { startSidecar } from '../../scripts/harness/sidecar.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { apply, get, type KubernetesObject, tryKubectl } from './kubectl.ts';
import { writeKubeconfig } from './webhook.ts';

/** A node that is made, and to be deleted at the end. */
export const zonedNode = 'outrigger-test-node';
const patient = { everyMs: 250 };

/** @param elsewhere another namespace */
export function testEndpoints(folder: string, elsewhere: string): void {
  t.test('a sidecar has exactly the permissions of its overlay', async (t) => {
    // The overlay before has left its service accounts and its rights in place.
    const as = '--as=system:serviceaccount:agents:research-agent';
    const can = async (...what: string[]) => (await tryKubectl(['auth', 'can-i', ...what, as])).stdout.trim();
    for (const verb of ['list', 'watch'])
      t.equal(await can(verb, 'endpointslices.discovery.k8s.io', '-n', 'agents'), 'yes', verb);
    t.equal(await can('get', 'nodes'), 'yes');
    for (const forbidden of [
      ['get', 'endpointslices.discovery.k8s.io', '-n', 'agents'],
      ['list', 'endpointslices.discovery.k8s.io', '-n', elsewhere],
      ['list', 'nodes'],
      ['get', 'pods', '-n', 'agents'],
      ['get', 'secrets', '-n', 'agents'],
      ['get', 'configmaps', '-n', 'agents'],
    ])
      t.equal(await can(...forbidden), 'no', forbidden.join(' '));
  });

  t.test('a sidecar of that overlay finds the endpoints and its zone with its service account', async (t) => {
    const zone = (name: string) => ({ 'topology.kubernetes.io/zone': name });
    const name = zonedNode;
    const node = { apiVersion: 'v1', kind: 'Node', metadata: { name, labels: zone('zone-a') } };
    t.match(await apply(node), { code: 0 });
    const slice = (ready: boolean) => ({
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: {
        name: 'writing-agent-1',
        namespace: 'agents',
        labels: { 'kubernetes.io/service-name': 'writing-agent' },
      },
      addressType: 'IPv4',
      ports: [{ name: 'grpc', port: 15006, protocol: 'TCP' }],
      endpoints: [
        { addresses: ['192.0.2.11'], zone: 'zone-a', conditions: { ready: true } },
        { addresses: ['192.0.2.12'], zone: 'zone-b', conditions: { ready } },
      ],
    });
    t.match(await apply(slice(true)), { code: 0 });
    const { data } = await get('configmap', 'outrigger', '-n', 'agents');
    const sidecar = await startSidecar(t, parse(data['outrigger.yaml']), {
      until: 'live',
      env: {
        KUBECONFIG: await writeKubeconfig(join(folder, 'sidecar.kubeconfig'), 'research-agent', 'agents'),
        NODE_NAME: name,
      },
    });
    const addresses = async (): Promise<string> => {
      const page = await fetch(`http://127.0.0.1:${sidecar.adminPort}/clusters`);
      const clusters = (await page.json()) as KubernetesObject;
      return clusters['writing-agent'].endpoints
        .map(({ address }: { address: string }) => address)
        .sort()
        .join(' ');
    };
    const both = '192.0.2.11:15006 192.0.2.12:15006';
    await waitUntil('both endpoints are known', async () => (await addresses()) === both, patient);
    t.match(await apply(slice(false)), { code: 0 });
    await waitUntil(
      'the change is heard of',
      async () => (await addresses()) === '192.0.2.11:15006',
      patient,
    );
    t.notMatch(sidecar.logs(), /zone of node|may not/, 'the node was asked for its zone');
  });
}
