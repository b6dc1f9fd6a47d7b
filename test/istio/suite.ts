// `npm run test:istio`: the files for Istio before Istio's own tools, and before a Kubernetes API with its CRDs.
//
// istioctl is the one of ISTIOCTL, of the search path, or the one that scripts/istio-tools.mjs builds. KUBECONFIG names
// the API; without it that part is skipped. The suite installs the CRDs where they are missing and leaves them, makes
// the namespace agents and deletes it; where that exists already it refuses to begin. Pods need not run.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import t, { type Test } from 'tap';
import { parseAllDocuments, stringify } from 'yaml';
import { runProcess } from '../../scripts/harness/process.ts';
import { requireTool } from '../../scripts/harness/tool.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { apply, get, type KubernetesObject, kubectl, tryKubectl } from '../cluster/kubectl.ts';
import { testOnePod } from './one-pod.ts';

const root = join(import.meta.dirname, '..', '..');
const overlays = readdirSync(join(root, 'istio', 'overlays')).sort();
const patient = { limitMs: 120_000, everyMs: 500 };
const istioctl = findIstioctl();
const cluster = process.env['KUBECONFIG'] === undefined ? 'without KUBECONFIG' : false;

t.setTimeout(1_800_000);

const folder = mkdtempSync(join(tmpdir(), 'outrigger-istio-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));

function findIstioctl(): string {
  const built = join(root, '.cache', 'istio', 'bin', 'istioctl');
  const places = (process.env['PATH'] ?? '').split(delimiter).map((path) => join(path, 'istioctl'));
  const found = [process.env['ISTIOCTL'] ?? '', ...places, built].find(
    (path) => path !== '' && existsSync(path),
  );
  if (found === undefined) throw new Error('no istioctl: set ISTIOCTL, or run node scripts/istio-tools.mjs');
  return found;
}

function objectsIn(text: string): KubernetesObject[] {
  return parseAllDocuments(text)
    .map((document) => document.toJS())
    .filter((object) => object !== null);
}

function isIstio({ apiVersion }: KubernetesObject): boolean {
  return /\.istio\.io\//.test(apiVersion);
}

async function build(overlay: string): Promise<string> {
  const path = join(root, 'istio', 'overlays', overlay);
  const { code, output } = await runProcess(t, requireTool('kustomize'), ['build', path]);
  if (code !== 0) throw new Error(output);
  return output;
}

function write(name: string, objects: readonly KubernetesObject[]): string {
  const file = join(folder, name);
  writeFileSync(file, objects.map((object) => stringify(object)).join('---\n'));
  return file;
}

async function run(t: Test, ...args: string[]): Promise<{ code: number | string; output: string }> {
  // Under load istioctl takes its time to start.
  return runProcess(t, istioctl, args, { limitMs: 300_000 });
}

/** What istioctl says of any cluster where no pod runs and no istiod has put a proxy into one. */
const nothingRuns: Readonly<Record<string, string>> = {
  sidecar: 'IST0103', // pods without a proxy
  ambient: 'IST0127', // no pod that ztunnel has taken in
  'beside-outrigger': 'IST0102', // the namespace is not enabled for injection, as it should be
  linkerd: 'IST0102',
  'linkerd-beside-outrigger': 'IST0102',
};

/** Its complaints, and none of what it says when there are none. */
async function analyze(t: Test, ...args: string[]): Promise<string> {
  const { output } = await run(t, 'analyze', ...args);
  return output
    .split('\n')
    .filter((line) => /^(Error|Warning|Info) \[/.test(line))
    .join('\n');
}

t.test('istioctl validate accepts every overlay', async (t) => {
  for (const overlay of overlays) {
    const objects = objectsIn(await build(overlay));
    if (!objects.some(isIstio)) continue;
    const { code, output } = await run(t, 'validate', '-f', write(`${overlay}.yaml`, objects));
    t.equal(code, 0, `${overlay}: ${output}`);
    t.notMatch(output, /warning/i, overlay);
  }
});

t.test('istioctl validate refuses invalid changes of the same files', async (t) => {
  const objects = objectsIn(await build('sidecar'));
  const changed = async (kind: string, change: (spec: KubernetesObject) => void) => {
    const copy = structuredClone(objects.find((object) => object.kind === kind));
    change(copy.spec);
    return run(t, 'validate', '-f', write('wrong.yaml', [copy]));
  };
  const retryOn = await changed('VirtualService', (spec) => {
    spec.http[0].retries.retryOn = 'unavailible';
  });
  t.match(retryOn, { code: 1, output: /unavailible/ });
  const duration = await changed('DestinationRule', (spec) => {
    spec.trafficPolicy.outlierDetection.interval = '30 s';
  });
  t.not(duration.code, 0, duration.output);
  const field = await changed('DestinationRule', (spec) => {
    spec.trafficPolicy.outlierDetection.consecutiveGatewayError = 3;
  });
  t.not(field.code, 0, field.output);
});

t.test('istioctl analyze finds nothing in any overlay', async (t) => {
  for (const overlay of overlays) {
    const objects = objectsIn(await build(overlay));
    const file = write(`${overlay}-analyzed.yaml`, objects);
    const found = await analyze(t, '--use-kube=false', '--namespace=agents', file);
    t.equal(found, '', overlay);
  }
  const objects = objectsIn(await build('sidecar'));
  objects.find(({ kind }) => kind === 'VirtualService').spec.http[0].route[0].destination.subset = 'v2';
  const found = await analyze(t, '--use-kube=false', '--namespace=agents', write('subset.yaml', objects));
  t.match(found, /IST0101|v2/, 'it would have found a missing subset');
});

testOnePod(istioctl, folder, readFileSync(join(root, 'docs', 'istio.md'), 'utf8'), cluster);

t.test('a Kubernetes API with the CRDs of Istio accepts every overlay', { skip: cluster }, async (t) => {
  const version = JSON.parse((await tryKubectl(['version', '-o', 'json'])).stdout);
  t.comment(`Kubernetes ${version.serverVersion?.gitVersion}`);
  const { items } = await get('namespaces');
  if (items.some(({ metadata }: KubernetesObject) => metadata.name === 'agents'))
    t.bailout('the cluster has a namespace agents already; the suite would change and delete it');
  for (const name of ['istio-crds', 'gateway-crds'] as const) {
    // Too large for the annotation that a client-side apply leaves.
    const args = ['apply', '--server-side', '--validate=strict', '-f', requireTool(name)];
    await kubectl(args);
  }
  const crds = ['virtualservices.networking.istio.io', 'gateways.gateway.networking.k8s.io'];
  await kubectl([
    'wait',
    '--for=condition=Established',
    '--timeout=60s',
    ...crds.map((name) => `crd/${name}`),
  ]);
  t.teardown(() => tryKubectl(['delete', 'namespace', 'agents', '--ignore-not-found', '--wait=false']));
  for (const overlay of overlays) {
    const text = await build(overlay);
    const result = await apply(text);
    t.equal(result.code, 0, `${overlay}: ${result.stderr}`);
    t.notMatch(result.stderr, /warning/i, overlay);
    const objects = objectsIn(text).filter(isIstio);
    for (const { kind, metadata, spec } of objects) {
      const found = await get(kind, metadata.name, '-n', 'agents');
      t.match(found.spec, spec, `${overlay}: ${kind} ${metadata.name} keeps every field`);
    }
    const again = await apply(text);
    const changed = again.stdout
      .split('\n')
      .filter((line) => /istio\.io\/.* (configured|created)/.test(line));
    t.strictSame(changed, [], `${overlay}: applied again they are the same`);
    const found = (await analyze(t, '--namespace=agents')).split('\n');
    const foreseen = `[${nothingRuns[overlay]}]`;
    t.strictSame(
      found.filter((line) => line !== '' && !line.includes(foreseen)),
      [],
      `${overlay}: analyzed in the cluster`,
    );
    const mine = join(folder, 'mine.yaml');
    writeFileSync(mine, text);
    await kubectl(['delete', '--wait=true', '--timeout=60s', '--ignore-not-found', '-f', mine]);
    await waitUntil(
      'the namespace has disappeared',
      async () => (await tryKubectl(['get', 'namespace', 'agents'])).code !== 0,
      patient,
    );
  }
});

t.test('it accepts the output for any configuration', { skip: cluster }, async (t) => {
  const configurations = readdirSync(join(root, 'test', 'istio')).filter((name) => name.endsWith('.yaml'));
  t.ok(configurations.length >= 4);
  await kubectl(['create', 'namespace', 'agents']);
  t.teardown(() => tryKubectl(['delete', 'namespace', 'agents', '--ignore-not-found', '--wait=false']));
  for (const name of configurations) {
    const args = ['istio', '--config', join(root, 'test', 'istio', name), '--namespace=agents'];
    const { code, output } = await runProcess(t, process.execPath, [join(root, 'sidecar/main.ts'), ...args]);
    t.equal(code, 0, name);
    const result = await apply(output.replaceAll('namespace: tools', 'namespace: agents'));
    t.equal(result.code, 0, `${name}: ${result.stderr}`);
    const file = join(folder, name);
    writeFileSync(file, output);
    const validated = await run(t, 'validate', '-f', file);
    t.equal(validated.code, 0, `${name}: ${validated.output}`);
  }
});
