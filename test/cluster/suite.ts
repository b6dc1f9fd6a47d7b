// `npm run test:cluster`: the manifests and the webhook against a real Kubernetes API, the one that KUBECONFIG names.
//
// It makes the namespaces that the manifests name and some of its own, and deletes them at the end; where one of them
// exists already it refuses to begin. The API server must reach this machine: OUTRIGGER_TEST_HOST says by which
// address (127.0.0.1 when it runs here). Pods need not run, so a control plane without nodes is enough.
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { parse } from 'yaml';
import { freePort } from '../../scripts/harness/free-port.ts';
import { runProcess } from '../../scripts/harness/process.ts';
import { requireTool } from '../../scripts/harness/tool.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { testAnyPod } from './any-pod.ts';
import { testDocumentedCommands } from './documented.ts';
import { testEndpoints, zonedNode } from './endpoints.ts';
import { helmNamespaces, testHelm } from './helm.ts';
import { apply, get, type KubernetesObject, kubectl, tryKubectl } from './kubectl.ts';
import { createsPodsUntil, deployment, pod, podsOf, sidecarsOf } from './objects.ts';
import { testOddPods } from './odd-pods.ts';
import { testScaler } from './scaler.ts';
import { pointHere, setFailurePolicy, startWebhook, system, writeKubeconfig } from './webhook.ts';

const root = join(import.meta.dirname, '..', '..');
const overlays = readdirSync(join(root, 'k8s', 'overlays')).sort();
const labelled = 'outrigger-test-labelled';
const unlabelled = 'outrigger-test-unlabelled';
const namespaces = [labelled, unlabelled, system, 'agents', 'observability', ...helmNamespaces];
/** cert-manager's, whose Certificates an overlay has. Where it is not installed its kinds alone are made known. */
const certManagerCrds = ['certificates.cert-manager.io', 'issuers.cert-manager.io'];
/** KEDA's, whose ScaledObjects an overlay has. */
const kedaCrds = ['scaledobjects.keda.sh', 'triggerauthentications.keda.sh'];
const madeCrds: string[] = [];
const patient = { everyMs: 250 };

t.setTimeout(900_000);
if (process.env['KUBECONFIG'] === undefined)
  t.bailout(
    'set KUBECONFIG to the cluster to test against; the suite makes namespaces there, and deletes them',
  );

const folder = mkdtempSync(join(tmpdir(), 'outrigger-cluster-'));
t.teardown(async () => {
  const configurations = ['outrigger', 'blue-outrigger'];
  await tryKubectl(['delete', 'mutatingwebhookconfiguration', '--ignore-not-found', ...configurations]);
  const roles = ['outrigger-webhook', 'outrigger-zone', 'outrigger-prometheus'];
  for (const name of [...roles, ...roles.map((role) => `blue-${role}`)])
    await tryKubectl(['delete', 'clusterrole,clusterrolebinding', name, '--ignore-not-found']);
  await tryKubectl(['delete', 'node', zonedNode, '--ignore-not-found']);
  if (madeCrds.length > 0)
    await tryKubectl(['delete', 'crd', ...madeCrds, '--ignore-not-found', '--wait=false']);
  for (const kind of ['validatingadmissionpolicy', 'validatingadmissionpolicybinding'])
    await tryKubectl(['delete', kind, 'outrigger-scaler', '--ignore-not-found']);
  await tryKubectl(['delete', 'namespace', '--ignore-not-found', '--wait=false', ...namespaces]);
  rmSync(folder, { recursive: true, force: true });
});

async function build(overlay: string): Promise<string> {
  const path = join(root, 'k8s', 'overlays', overlay);
  const { code, output } = await runProcess(t, requireTool('kustomize'), ['build', path]);
  if (code !== 0) throw new Error(output);
  return output;
}

const createsUntil = (
  what: string,
  name: string,
  isRight: (created: KubernetesObject | undefined) => boolean,
): Promise<void> => createsPodsUntil(labelled, what, name, isRight);

const port = await freePort();
let webhook: Awaited<ReturnType<typeof startWebhook>>;

t.test('the cluster has no objects of an earlier run', async (t) => {
  const { stdout } = await tryKubectl(['version', '-o', 'json']);
  t.comment(`Kubernetes ${JSON.parse(stdout).serverVersion?.gitVersion}`);
  const { items } = await get('namespaces');
  const there = items.map((each: KubernetesObject) => each.metadata.name);
  const taken = namespaces.filter((name) => there.includes(name));
  if (taken.length > 0)
    t.bailout(
      `the cluster has ${taken.join(', ')} already; the suite would change and delete it: delete it first`,
    );
  for (const [name, labels] of [
    [labelled, { 'outrigger.dev/inject': 'true', 'pod-security.kubernetes.io/enforce': 'restricted' }],
    [unlabelled, {}],
  ] as const)
    t.match(await apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } }), { code: 0 });
});

t.test('the API server accepts every overlay with strict validation', async (t) => {
  t.ok(overlays.length >= 11);
  for (const [crds, tools] of [
    [certManagerCrds, ['certificate-crds', 'issuer-crds']],
    [kedaCrds, ['scaled-object-crds', 'trigger-authentication-crds']],
  ] as const) {
    if ((await tryKubectl(['get', 'crd', ...crds])).code === 0) continue;
    madeCrds.push(...crds);
    for (const name of tools)
      await kubectl(['apply', '--server-side', '--validate=strict', '-f', requireTool(name)]);
    const wanted = crds.map((name) => `crd/${name}`);
    await kubectl(['wait', '--for=condition=Established', '--timeout=60s', ...wanted]);
  }
  for (const overlay of overlays) {
    const { code, stderr } = await apply(await build(overlay));
    t.equal(code, 0, `${overlay} ${stderr}`);
    // A warning is a field that will go, or a pod that "restricted" refuses. Interception is never restricted.
    t.equal(stderr, '', `${overlay} has no warnings`);
  }
  // The other overlays have left their mark on the same objects: the webhook's own is the last word.
  t.match(await apply(await build('webhook')), { code: 0 });
});

t.test('the webhook publishes its authority with the permissions of the manifests', async (t) => {
  await writeKubeconfig(join(folder, 'webhook.kubeconfig'), 'outrigger-webhook', system);
  await pointHere(port);
  webhook = await startWebhook(folder, port);
  const { webhooks } = await get('mutatingwebhookconfiguration', 'outrigger');
  for (const { clientConfig } of webhooks) t.match(clientConfig.caBundle, /\S{100}/);
  const { data } = await get('secret', 'outrigger-webhook-certificate', '-n', system);
  t.strictSame(Object.keys(data).sort(), ['ca.crt', 'tls.crt', 'tls.key']);
  const as = `--as=system:serviceaccount:${system}:outrigger-webhook`;
  for (const forbidden of [
    ['list', 'secrets', '-n', system],
    ['get', 'secret/other', '-n', system],
    ['create', 'secrets', '-n', system],
    ['get', 'pods', '-n', labelled],
    ['update', 'mutatingwebhookconfigurations/outrigger'],
    ['patch', 'mutatingwebhookconfigurations/other'],
  ])
    t.match(await tryKubectl(['auth', 'can-i', ...forbidden, as]), { stdout: /^no/ }, forbidden.join(' '));
});

t.test('a bare pod gets the sidecar, and the API accepts it in a restricted namespace', async (t) => {
  await createsUntil(
    'pods are injected',
    'warm',
    (found) => found !== undefined && sidecarsOf(found).length === 1,
  );
  const { code, stderr } = await apply(pod('bare', labelled));
  t.equal(code, 0, stderr);
  const found = await get('pod', 'bare', '-n', labelled);
  const [sidecar, ...more] = sidecarsOf(found);
  t.equal(more.length, 0);
  t.match(sidecar, { restartPolicy: 'Always', securityContext: { runAsUser: 15000 } });
  t.equal(found.spec.initContainers[0].name, 'outrigger');
  t.equal(found.spec.containers[0].readinessProbe.grpc.port, 15006);
  t.match(found.metadata.annotations['outrigger.dev/injected'], /^\d/);
});

t.test('labels decide whether a pod gets the sidecar', async (t) => {
  await apply(pod('out', labelled, { labels: { 'outrigger.dev/inject': 'false' } }));
  await apply(pod('in', unlabelled, { labels: { 'outrigger.dev/inject': 'true' } }));
  await apply(pod('none', unlabelled));
  t.equal(sidecarsOf(await get('pod', 'out', '-n', labelled)).length, 0);
  t.equal(sidecarsOf(await get('pod', 'in', '-n', unlabelled)).length, 1);
  t.equal(sidecarsOf(await get('pod', 'none', '-n', unlabelled)).length, 0);
});

t.test(
  'a pod that cannot have the sidecar is created without it, with a warning that has the reason',
  async (t) => {
    const clash = pod('clash', labelled, {
      container: { ports: [{ containerPort: 15006 }], readinessProbe: null },
    });
    const { code, stderr } = await apply(clash);
    t.equal(code, 0, stderr);
    t.match(stderr, /Warning: no Outrigger sidecar: containerPort 15006/);
    t.equal(sidecarsOf(await get('pod', 'clash', '-n', labelled)).length, 0);
  },
);

t.test("a Deployment's pods get the sidecar once, and again after an update", async (t) => {
  t.match(await apply(deployment('web', labelled, 2)), { code: 0 });
  const hasPods = async (count: number, image: string) => {
    const pods = await podsOf('web', labelled);
    const right = pods.filter((each) => each.spec.containers[0].image === image);
    return right.length >= count ? right : undefined;
  };
  const first = await waitUntil('two pods', () => hasPods(2, 'agent:1'), patient);
  for (const each of first) t.equal(sidecarsOf(each).length, 1);
  await kubectl(['set', 'image', 'deployment/web', 'agent=agent:2', '-n', labelled]);
  const second = await waitUntil('a pod of the new image', () => hasPods(1, 'agent:2'), patient);
  for (const each of second) t.equal(sidecarsOf(each).length, 1);
  const { metadata } = second[0]!;
  const change = await tryKubectl(['label', 'pod', metadata.name, '-n', labelled, 'touched=yes']);
  t.equal(change.code, 0, `an update of an injected pod passes: ${change.stderr}`);
});

t.test("the API server accepts every overlay's pods with the sidecar", async (t) => {
  for (const overlay of ['injected', 'production', 'local', 'intercepted', 'mutual-tls', 'endpoint-slices']) {
    await kubectl(['delete', 'namespace', 'agents', '--ignore-not-found', '--timeout=60s']);
    t.match(await apply(await build(overlay)), { code: 0 }, overlay);
    const wanted = ['gateway', 'research-agent', 'writing-agent', 'code-agent'];
    const pods = await waitUntil(
      `every workload of ${overlay} has a pod`,
      async () => {
        const { items } = await get('pods', '-n', 'agents');
        const named = (name: string) => (each: KubernetesObject) =>
          each.metadata.labels['app.kubernetes.io/name'] === name;
        return wanted.every((name) => items.some(named(name))) ? (items as KubernetesObject[]) : undefined;
      },
      patient,
    );
    for (const each of pods) {
      const name = each.metadata.labels['app.kubernetes.io/name'];
      t.equal(sidecarsOf(each).length, name === 'provider' ? 0 : 1, `${overlay}: ${each.metadata.name}`);
    }
    const steps = pods.filter((each) =>
      each.spec.initContainers?.some((init: KubernetesObject) => init.name === 'outrigger-intercept'),
    );
    t.equal(steps.length > 0, overlay === 'intercepted', overlay);
  }
});

testEndpoints(folder, labelled);

t.test('the overlay of the scaler is applied', async (t) => {
  t.match(await apply(await build('scaler')), { code: 0 });
});
testScaler(folder);

testOddPods(labelled);

testAnyPod(unlabelled);

t.test('the API server accepts the output of outrigger inject', async (t) => {
  const file = join(folder, 'plain.yaml');
  writeFileSync(file, await build('plain'));
  const args = [join(root, 'sidecar', 'main.ts'), 'inject', '-f', file];
  const child = await runProcess(t, 'sh', ['-c', 'exec "$@" 2>/dev/null', 'sh', process.execPath, ...args]);
  t.equal(child.code, 0);
  const result = await tryKubectl(
    ['apply', '--validate=strict', '--dry-run=server', '-f', '-'],
    child.output,
  );
  t.equal(result.code, 0, result.stderr);
});

t.test('a restarted webhook continues with the stored certificate', async (t) => {
  const before = await get('secret', 'outrigger-webhook-certificate', '-n', system);
  t.equal(await webhook.stop(20_000), 0);
  webhook = await startWebhook(folder, port);
  const after = await get('secret', 'outrigger-webhook-certificate', '-n', system);
  t.equal(after.data['tls.crt'], before.data['tls.crt']);
  await createsUntil(
    'pods are injected',
    'again',
    (found) => found !== undefined && sidecarsOf(found).length === 1,
  );
});

t.test('two replicas restore a lost certificate and a lost bundle, and agree on them', async (t) => {
  const other = await startWebhook(folder, await freePort());
  const empty = [{ op: 'remove', path: '/data' }];
  await kubectl([
    'patch',
    'secret',
    'outrigger-webhook-certificate',
    '-n',
    system,
    '--type=json',
    `-p=${JSON.stringify(empty)}`,
  ]);
  await pointHere(port);
  const bundle = await waitUntil(
    'the bundle is the one of the new certificate',
    async () => {
      const { data } = await get('secret', 'outrigger-webhook-certificate', '-n', system);
      const { webhooks } = await get('mutatingwebhookconfiguration', 'outrigger');
      const bundles = webhooks.map((each: KubernetesObject) => each.clientConfig.caBundle);
      return data !== undefined && bundles.every((each: string) => each === data['ca.crt'])
        ? bundles[0]
        : undefined;
    },
    patient,
  );
  t.match(Buffer.from(bundle, 'base64').toString(), /BEGIN CERTIFICATE/);
  t.equal(await other.stop(20_000), 0);
});

t.test('while the webhook is down, failurePolicy decides about pods', async (t) => {
  t.equal(await webhook.stop(20_000), 0);
  await setFailurePolicy('Ignore');
  await createsUntil(
    'pods are created without a sidecar',
    'open',
    (found) => found !== undefined && sidecarsOf(found).length === 0,
  );
  await setFailurePolicy('Fail');
  await createsUntil('pods are refused', 'closed', (found) => found === undefined);
  const refused = await apply(pod('refused', labelled));
  t.match(refused.stderr, /failed calling webhook/);
  const optedOut = await apply(pod('still-out', labelled, { labels: { 'outrigger.dev/inject': 'false' } }));
  t.equal(optedOut.code, 0, `who is opted out is not held up: ${optedOut.stderr}`);
  webhook = await startWebhook(folder, port);
  await createsUntil(
    'pods are injected again',
    'back',
    (found) => found !== undefined && sidecarsOf(found).length === 1,
  );
  t.equal(await webhook.stop(20_000), 0);
});

t.test('the suite leaves no object behind', async () => {
  await kubectl(['delete', 'mutatingwebhookconfiguration', 'outrigger']);
  await kubectl(['delete', 'namespace', system, 'agents', '--timeout=60s']);
});

testHelm(folder, labelled, build);

testDocumentedCommands(folder);

// The configuration in the manifests is what has been tested: a URL instead of the Service, and nothing else.
t.test('the configuration selects the creation of pods, and nothing else', async (t) => {
  const documents = (await build('webhook')).split(/^---$/m).map((text) => parse(text));
  const { webhooks } = documents.find((each) => each.kind === 'MutatingWebhookConfiguration');
  for (const { rules, sideEffects, admissionReviewVersions } of webhooks)
    t.match(
      { rules, sideEffects, admissionReviewVersions },
      {
        rules: [{ operations: ['CREATE'], resources: ['pods'] }],
        sideEffects: 'None',
        admissionReviewVersions: ['v1'],
      },
    );
});
