// The chart k8s/helm/outrigger, rendered by a real helm: it equals the overlays of kustomize, and it refuses values that
// contradict each other. `npm run test:cluster` installs it.
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { parseAllDocuments } from 'yaml';
import { runProcess } from '../scripts/harness/process.ts';
import { requireTool, skipWithout } from '../scripts/harness/tool.ts';

const root = join(import.meta.dirname, '..');
const k8s = join(root, 'k8s');
const chart = join(k8s, 'helm', 'outrigger');
/** A helm that `go install` builds assumes an older cluster. */
const kubernetes = '1.36.0';
const system = 'outrigger-system';

// biome-ignore lint/suspicious/noExplicitAny: objects of every kind, read by paths
type KubernetesObject = any;

t.setTimeout(290_000);
const folder = mkdtempSync(join(tmpdir(), 'outrigger-helm-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
const skip = skipWithout('helm', 'kustomize', 'kubernetes-validate');

/** helm on its own: no settings, plug-ins or caches of the user. */
function helm(t: Test, ...args: string[]): ReturnType<typeof runProcess> {
  const env = { HOME: folder, KUBECONFIG: join(folder, 'none') };
  // It reports on standard error that it has followed a symbolic link.
  const quiet = '"$@" 2>"$STDERR" || { code=$?; cat "$STDERR"; exit "$code"; }';
  const program = ['-c', quiet, 'sh', 'env', 'LC_ALL=C', requireTool('helm'), ...args];
  return runProcess(t, 'sh', program, { env: { ...env, STDERR: join(folder, 'stderr') } });
}

interface Choice {
  readonly release?: string;
  readonly namespace?: string;
  readonly from?: string;
  readonly set?: readonly string[];
  readonly values?: string;
}

function template(t: Test, choice: Choice = {}): ReturnType<typeof runProcess> {
  const { release = 'outrigger', namespace = system, from = chart, set = [], values = '' } = choice;
  const file = join(folder, 'values.yaml');
  writeFileSync(file, values);
  const flags = ['--namespace', namespace, '--kube-version', kubernetes, '--values', file];
  return helm(t, 'template', release, from, ...flags, ...set.flatMap((each) => ['--set', each]));
}

async function rendered(t: Test, choice: Choice = {}): Promise<string> {
  const { code, output } = await template(t, choice);
  if (code !== 0) throw new Error(output);
  return output;
}

async function build(t: Test, path: string): Promise<string> {
  const { code, output } = await runProcess(t, requireTool('kustomize'), ['build', path]);
  if (code !== 0) throw new Error(output);
  return output;
}

const objectsIn = (text: string): KubernetesObject[] =>
  parseAllDocuments(text)
    .map((document) => document.toJS())
    .filter((object) => object !== null);

const OF_HELM = [
  'helm.sh/chart',
  'app.kubernetes.io/instance',
  'app.kubernetes.io/managed-by',
  'app.kubernetes.io/version',
  'helm.sh/resource-policy',
  'checksum/config',
];

function withoutHelms(metadata: KubernetesObject): KubernetesObject {
  const kept = { ...metadata };
  for (const key of ['labels', 'annotations']) {
    const entries = Object.entries(metadata[key] ?? {}).filter(([name]) => !OF_HELM.includes(name));
    if (entries.length === 0) delete kept[key];
    else kept[key] = Object.fromEntries(entries);
  }
  return kept;
}

/** By kind and name: the objects without what helm adds, and without the namespace that `--create-namespace` makes. */
function byName(text: string): Map<string, KubernetesObject> {
  const found = new Map<string, KubernetesObject>();
  for (const object of objectsIn(text)) {
    const { kind, metadata, spec } = object;
    if (kind === 'Namespace' && metadata.name !== 'observability') continue;
    const template = spec?.template && {
      ...spec.template,
      metadata: withoutHelms(spec.template.metadata),
    };
    const name = `${kind} ${metadata.namespace ?? ''}/${metadata.name}`;
    if (found.has(name)) throw new Error(`${name} occurs twice`);
    found.set(name, {
      ...object,
      metadata: withoutHelms(metadata),
      ...(spec && { spec: template === undefined ? spec : { ...spec, template } }),
    });
  }
  return found;
}

function same(t: Test, chart: string, overlay: string, what: string): void {
  const [made, wanted] = [byName(chart), byName(overlay)];
  t.strictSame([...made.keys()].sort(), [...wanted.keys()].sort(), `${what}: the same objects`);
  for (const [name, object] of wanted) t.strictSame(made.get(name), object, `${what}: ${name}`);
}

t.test('the chart renders the objects of the overlays', { skip }, async (t) => {
  const open = await build(t, join(k8s, 'overlays/webhook'));
  same(t, await rendered(t), open, 'by default');
  t.ok(byName(open).size >= 9, 'the overlay has objects');

  const closed = await build(t, join(k8s, 'overlays/production-webhook'));
  same(t, await rendered(t, { set: ['failurePolicy=Fail'] }), closed, 'failurePolicy=Fail');

  const elsewhere = await rendered(t, { namespace: 'sidecars' });
  same(t, elsewhere, open.replaceAll(system, 'sidecars'), 'another namespace');

  const beside = (await rendered(t, { release: 'blue' })).replaceAll('blue-outrigger', 'outrigger');
  same(t, beside, open, 'another release has names of its own, and nothing else');

  cpSync(k8s, join(folder, 'k8s'), { recursive: true, verbatimSymlinks: true });
  const image = 'registry.example:5000/team/outrigger';
  const copy = join(folder, 'k8s/base/webhook');
  const edit = `cd "$1" && "$0" edit set image "outrigger=${image}:9.9" && "$0" edit set replicas outrigger-webhook=5`;
  await runProcess(t, 'sh', ['-c', edit, requireTool('kustomize'), copy]);
  const set = [`image.repository=${image}`, 'image.tag=9.9', 'replicas=5'];
  const own = await build(t, copy);
  t.match(own, `value: ${image}:9.9`);
  same(t, await rendered(t, { set }), own, 'image and replicas');
});

t.test('with observability.enabled it renders k8s/observability, too', { skip }, async (t) => {
  const made = await build(t, join(k8s, 'observability'));
  const names = objectsIn(made).flatMap(({ kind, metadata }) => (kind === 'ConfigMap' ? metadata.name : []));
  t.ok(names.length >= 6);
  const plain = names.reduce((text, name) => text.replaceAll(name, name.replace(/-[a-z0-9]{10}$/, '')), made);
  const endpoint = 'http://otel-collector.observability:4318';
  const webhook = await rendered(t, { set: [`injection.otlpEndpoint=${endpoint}`] });
  const both = await rendered(t, { set: ['observability.enabled=true'] });
  same(t, both, `${plain}\n---\n${webhook}`, 'sidecars send their traces to its collector');

  const set = [
    'enabled=true',
    'namespace=watch',
    'createNamespace=false',
    'storageClassName=fast',
    'imageRegistry=mirror.example/hub',
  ].map((each) => `observability.${each}`);
  const moved = objectsIn(await rendered(t, { set, release: 'blue' }));
  const namespaces = new Set(moved.map(({ metadata }) => metadata.namespace));
  t.strictSame([...namespaces].map(String).sort(), [system, 'undefined', 'watch']);
  t.notOk(moved.some(({ kind }) => kind === 'Namespace'));
  const text = JSON.stringify(moved);
  t.equal(text.match(/"storageClassName":"fast"/g)?.length, 2);
  t.equal(text.match(/"image":"mirror\.example\/hub\/[a-z]+\/[a-z-]+:/g)?.length, 4);
  const role = moved.find(({ kind, metadata }) => kind === 'ClusterRole' && /prometheus/.test(metadata.name));
  const binding = moved.find(
    ({ kind, roleRef }) => kind === 'ClusterRoleBinding' && roleRef.name === role.metadata.name,
  );
  t.match(binding, { metadata: { name: 'blue-outrigger-prometheus' }, subjects: [{ namespace: 'watch' }] });
  t.match(text, /"observability","monitoring","watch"/, 'its Prometheus may scrape the webhook');
});

/** Every value that the chart has, with another content than its default. */
const everything = `
replicas: 3
image: { repository: registry.example/outrigger, digest: "sha256:${'a'.repeat(64)}", pullPolicy: Always, pullSecrets: [{ name: pull }] }
injection: { image: registry.example/sidecar:1, interceptImage: registry.example/intercept:1, otlpEndpoint: "http://traces:4318" }
failurePolicy: Fail
timeoutSeconds: 10
excludedNamespaces: [kube-system, ci]
certificate:
  secretName: webhook-tls
  ca: "-----BEGIN CERTIFICATE-----\\nMIIB\\n-----END CERTIFICATE-----\\n"
  configurationAnnotations: { cert-manager.io/inject-ca-from: outrigger-system/webhook }
serviceAccount: { create: false, name: existing }
rbac: { create: true }
networkPolicy: { apiServerPorts: [16443], metricsNamespaces: [] }
podDisruptionBudget: { enabled: false }
logLevel: debug
resources: { requests: { cpu: 1, memory: 1Gi } }
podAnnotations: { a: b }
podLabels: { team: x }
nodeSelector: { disk: ssd }
tolerations: [{ key: dedicated, operator: Exists, effect: NoSchedule }]
affinity: { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [{ matchExpressions: [{ key: a, operator: Exists }] }] } } }
priorityClassName: system-cluster-critical
topologySpreadConstraints: [{ maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: { matchLabels: { a: b } } }]
env: [{ name: HTTPS_PROXY, value: "http://proxy:3128" }]
fullnameOverride: sidecars
`;

t.test('each value takes effect, and the API accepts the objects', { skip }, async (t) => {
  const full = await rendered(t, { values: everything });
  const objects = objectsIn(full);
  const of = (wanted: string) => objects.find(({ kind }) => kind === wanted);
  const image = `registry.example/outrigger@sha256:${'a'.repeat(64)}`;
  t.match(of('Deployment'), {
    metadata: { name: 'sidecars-webhook' },
    spec: {
      replicas: 3,
      template: {
        metadata: { annotations: { a: 'b' }, labels: { team: 'x' } },
        spec: {
          serviceAccountName: 'existing',
          automountServiceAccountToken: false,
          nodeSelector: { disk: 'ssd' },
          priorityClassName: 'system-cluster-critical',
          imagePullSecrets: [{ name: 'pull' }],
          topologySpreadConstraints: [{ topologyKey: 'zone' }],
          volumes: [{ secret: { secretName: 'webhook-tls', defaultMode: 0o440 } }],
          containers: [
            {
              image,
              imagePullPolicy: 'Always',
              args: [
                'webhook',
                '--tls-cert=/run/outrigger/tls/tls.crt',
                '--tls-key=/run/outrigger/tls/tls.key',
              ],
            },
          ],
        },
      },
    },
  });
  const [{ env }] = of('Deployment').spec.template.spec.containers;
  t.strictSame(Object.fromEntries(env.map(({ name, value }: KubernetesObject) => [name, value])), {
    OUTRIGGER_IMAGE: 'registry.example/sidecar:1',
    OUTRIGGER_INTERCEPT_IMAGE: 'registry.example/intercept:1',
    OUTRIGGER_IMAGE_PULL_POLICY: 'Always',
    OUTRIGGER_OTLP_ENDPOINT: 'http://traces:4318',
    OUTRIGGER_LOG_LEVEL: 'debug',
    HTTPS_PROXY: 'http://proxy:3128',
  });
  const configuration = of('MutatingWebhookConfiguration');
  t.match(configuration.metadata, {
    name: 'sidecars',
    annotations: { 'cert-manager.io/inject-ca-from': 'outrigger-system/webhook' },
  });
  for (const { clientConfig, namespaceSelector, timeoutSeconds } of configuration.webhooks) {
    t.match(Buffer.from(clientConfig.caBundle, 'base64').toString(), /^-----BEGIN CERTIFICATE/);
    t.strictSame(namespaceSelector.matchExpressions[1].values, ['kube-system', 'ci', system]);
    t.equal(timeoutSeconds, 10);
  }
  const kinds = objects.map(({ kind }) => kind).sort();
  t.strictSame(
    kinds,
    ['Deployment', 'MutatingWebhookConfiguration', 'NetworkPolicy', 'Service'],
    'a certificate from a Secret needs no rights, and what is switched off is absent',
  );

  const files = Object.entries({
    default: await rendered(t),
    full,
    single: await rendered(t, { set: ['replicas=1', 'certificate.lifetime=24h', 'image.pullPolicy=Never'] }),
    watched: await rendered(t, { set: ['observability.enabled=true', 'observability.imageRegistry=mirror'] }),
  }).map(([name, text]) => {
    const file = join(folder, `${name}.yaml`);
    writeFileSync(file, text);
    return file;
  });
  const args = ['--kubernetes-version', kubernetes, '--strict', '--quiet', ...files];
  t.match(
    await runProcess(t, requireTool('kubernetes-validate'), args, { limitMs: 200_000 }),
    { code: 0 },
    "every object matches Kubernetes' schemas",
  );
});

t.test('values that are wrong or contradict each other are refused, with what to do', { skip }, async (t) => {
  const refusals: [set: string, message: RegExp][] = [
    ['replica=3', /additional properties 'replica' not allowed/],
    ['image.name=x', /additional properties 'name' not allowed/],
    ['failurePolicy=Maybe', /failurePolicy': value must be one of 'Ignore', 'Fail'/],
    ['replicas=0', /replicas': minimum/],
    ['timeoutSeconds=31', /timeoutSeconds': maximum/],
    ['image.repository=outrigger:1', /image\/repository'/],
    ['injection.otlpEndpoint=collector:4318', /otlpEndpoint'/],
    ['certificate.secretName=x', /Set certificate\.ca to the authority/],
    ['certificate.configurationAnnotations.a=b', /Set certificate\.secretName, or remove the others/],
    ['certificate.lifetime=soon', /certificate\/lifetime'/],
    ['serviceAccount.create=false', /needs serviceAccount\.name/],
    [`observability.enabled=true,observability.namespace=${system}`, /choose another one/],
  ];
  for (const [set, message] of refusals) {
    const { code, output } = await template(t, { set: [set] });
    t.not(code, 0, set);
    t.match(output, message, set);
  }
});

t.test('the linter has no complaint, and the packed chart renders the same', { skip }, async (t) => {
  const { code, output } = await helm(t, 'lint', '--strict', '--kube-version', kubernetes, chart);
  t.equal(code, 0, output);
  t.match(output, /0 chart\(s\) failed/);
  const packed = await helm(t, 'package', chart, '--destination', folder);
  t.equal(packed.code, 0, packed.output);
  const from = /saved it to: (\S+)/.exec(packed.output)?.[1] ?? '';
  const set = ['observability.enabled=true'];
  t.equal(await rendered(t, { from, set }), await rendered(t, { set }));
  const { output: files } = await runProcess(t, 'tar', ['-tzf', from]);
  t.match(files, /observability\/files\/prometheus\/rules\.yaml/);
  t.notMatch(files, /compose|rules\.test|targets/, 'it leaves out what the chart does not use');
});
