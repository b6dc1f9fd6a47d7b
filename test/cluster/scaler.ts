// The scaler at a real Kubernetes API, with the overlay for it applied: its rights, that a ReplicaSet deletes the pods it calls
// idle, and that it can change nothing else of a pod.
import { createServer, type Server } from 'node:http';
import { join } from 'node:path';
import { CoreV1Api, KubeConfig, PatchStrategy, setHeaderOptions } from '@kubernetes/client-node';
import t from 'tap';
import { freePort } from '../../scripts/harness/free-port.ts';
import { skipWithout } from '../../scripts/harness/tool.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { Keda, startScaler } from '../support/scaler.ts';
import { apply, get, type KubernetesObject, kubectl, tryKubectl } from './kubectl.ts';
import { deployment } from './objects.ts';
import { writeKubeconfig } from './webhook.ts';

const patient = { everyMs: 250 };
const AS_MERGE = setHeaderOptions('Content-Type', PatchStrategy.MergePatch);
const COST = 'controller.kubernetes.io/pod-deletion-cost';
const SCALE_DOWNS = 20;
const PODS = 40;

interface Fleet {
  readonly port: number;
  /** The addresses whose pods have a call in flight. */
  readonly busy: Set<string>;
}

/** Answers for the sidecars of pods that no kubelet runs: every loopback address is one of them. */
async function serveMetrics(): Promise<Fleet & { readonly server: Server }> {
  const busy = new Set<string>();
  const server = createServer(({ socket }, response) => {
    const calls = busy.has(socket.localAddress ?? '') ? 1 : 0;
    response.end(`outrigger_active_calls{listener="inbound"} ${calls}\n`);
  });
  const port = await freePort();
  await new Promise<void>((resolve) => server.listen(port, '0.0.0.0', resolve));
  return { port, busy, server };
}

const there = async (): Promise<KubernetesObject[]> => {
  const { items } = await get('pods', '-n', 'agents', '-l', 'app=scaled');
  return items.filter(({ metadata }: KubernetesObject) => metadata.deletionTimestamp === undefined);
};

/** Makes a pod what a kubelet makes of it: running and ready at this address since then. */
async function run(name: string, ip: string, since: string): Promise<void> {
  const condition = { type: 'Ready', status: 'True', lastTransitionTime: since };
  const status = { phase: 'Running', podIP: ip, podIPs: [{ ip }], conditions: [condition] };
  await kubectl([
    ...['patch', 'pod', name, '-n', 'agents', '--subresource=status', '--type=merge'],
    ...['-p', JSON.stringify({ status })],
  ]);
}

export function testScaler(folder: string): void {
  const kubeconfig = join(folder, 'scaler.kubeconfig');

  t.test('the scaler lists pods and writes their cost, and nothing else', async (t) => {
    const as = '--as=system:serviceaccount:agents:outrigger-scaler';
    const can = async (...what: string[]) => (await tryKubectl(['auth', 'can-i', ...what, as])).stdout.trim();
    for (const verb of ['list', 'patch']) t.equal(await can(verb, 'pods', '-n', 'agents'), 'yes', verb);
    for (const forbidden of [
      ['delete', 'pods', '-n', 'agents'],
      ['create', 'pods', '-n', 'agents'],
      ['patch', 'pods', '-n', 'default'],
      ['patch', 'pods', '--subresource=status', '-n', 'agents'],
      ['get', 'secrets', '-n', 'agents'],
      ['patch', 'deployments.apps', '-n', 'agents'],
    ])
      t.equal(await can(...forbidden), 'no', forbidden.join(' '));
    t.match(await apply(deployment('scaled', 'agents', 1)), { code: 0 });
    const [pod] = await waitUntil('a pod', async () => {
      const pods = await there();
      return pods.length === 1 ? pods : undefined;
    });
    // kubectl would get the pod first, which the scaler may not.
    const config = new KubeConfig();
    config.loadFromFile(await writeKubeconfig(kubeconfig, 'outrigger-scaler', 'agents'));
    const api = config.makeApiClient(CoreV1Api);
    const { name } = pod.metadata;
    /** What the API server has against a change; '' when it makes it. */
    const patch = (body: object): Promise<string> =>
      api.patchNamespacedPod({ name, namespace: 'agents', body }, AS_MERGE).then(
        () => '',
        (error: unknown) => String((error as { body?: unknown }).body ?? error),
      );
    // API servers hear of a new policy a moment later.
    await waitUntil(
      'the policy is in force',
      async () => /nothing else of a pod/.test(await patch({ metadata: { labels: { stolen: 'yes' } } })),
      patient,
    );
    for (const change of [
      { metadata: { labels: { app: 'other' } } },
      { metadata: { annotations: { other: 'x' } } },
      { metadata: { ownerReferences: [] } },
      { metadata: { finalizers: ['x/y'] } },
      { spec: { containers: [{ ...pod.spec.containers[0], image: 'evil:1' }] } },
      { spec: { activeDeadlineSeconds: 1 } },
    ])
      t.match(await patch(change), /nothing else of a pod/, JSON.stringify(change));
    t.equal(await patch({ metadata: { annotations: { [COST]: '-100' } } }), '');
    t.equal(await patch({ metadata: { annotations: { [COST]: null } } }), '');
  });

  t.test(
    `${SCALE_DOWNS} of ${SCALE_DOWNS} scale-downs take an idle pod`,
    { skip: skipWithout('python') },
    async (t) => {
      const fleet = await serveMetrics();
      t.teardown(() => {
        fleet.server.close();
        fleet.server.closeAllConnections();
      });
      await kubectl(['scale', 'deployment/scaled', '-n', 'agents', `--replicas=${PODS}`]);
      const pods = await waitUntil('all pods', async () => {
        const found = await there();
        return found.length === PODS ? found : undefined;
      });
      const addressOf = new Map<string, string>();
      for (const [at, { metadata }] of pods.entries()) {
        const ip = `127.1.0.${at + 1}`;
        addressOf.set(metadata.name, ip);
        // Without costs, those that became ready last go first: here these are the busy ones.
        const isBusy = at % 2 === 1;
        if (isBusy) fleet.busy.add(ip);
        await run(metadata.name, ip, new Date(Date.now() - (isBusy ? 60_000 : 3_600_000)).toISOString());
      }
      const scaler = await startScaler(
        t,
        ['--namespace', 'agents', '--metrics-port', String(fleet.port), '--interval', '1s'],
        {
          KUBECONFIG: await writeKubeconfig(kubeconfig, 'outrigger-scaler', 'agents'),
        },
      );
      const keda = new Keda(t, scaler.address);
      const trigger = { metric: 'p99', target: '30', podSelector: 'app=scaled' };
      await waitUntil(
        'the scaler reads the pods',
        async () => (await keda.ask('IsActive', trigger)).result === true,
      );
      const isBusy = (name: string): boolean => fleet.busy.has(addressOf.get(name)!);
      const settled = async (): Promise<KubernetesObject[] | undefined> => {
        const found = await there();
        const right = ({ metadata }: KubernetesObject): boolean =>
          metadata.annotations?.[COST] === (isBusy(metadata.name) ? '100' : '-100');
        return found.every(right) ? found : undefined;
      };
      const known = await waitUntil('each pod has its cost', settled, patient);
      let taken = 0;
      let before = known.map(({ metadata }) => metadata.name as string);
      for (let round = 1; round <= SCALE_DOWNS; round++) {
        if (round === SCALE_DOWNS / 2) {
          // Half of the idle pods get work, and as many of the busy ones lose theirs.
          const [busy, idle] = [before.filter(isBusy), before.filter((name) => !isBusy(name))];
          const turned = Math.floor(idle.length / 2);
          for (const name of idle.slice(0, turned)) fleet.busy.add(addressOf.get(name)!);
          for (const name of busy.slice(0, turned)) fleet.busy.delete(addressOf.get(name)!);
          await waitUntil('the turned pods have their costs', settled, patient);
        }
        await kubectl(['scale', 'deployment/scaled', '-n', 'agents', `--replicas=${PODS - round}`]);
        const left = await waitUntil(
          'one pod is gone',
          async () => {
            const names = (await there()).map(({ metadata }) => metadata.name as string);
            return names.length === before.length - 1 ? names : undefined;
          },
          patient,
        );
        const [gone] = before.filter((name) => !left.includes(name));
        if (!isBusy(gone!)) taken++;
        before = left;
      }
      t.equal(taken, SCALE_DOWNS, `${taken} of ${SCALE_DOWNS} were idle`);
      t.equal(before.filter(isBusy).length, PODS / 2, 'every busy pod is there');
      t.equal(await scaler.stop(), 0, scaler.logs());
      await kubectl(['delete', 'deployment', 'scaled', '-n', 'agents', '--wait=false']);
    },
  );
}
