// The manifests, and what inject makes of them: built by kustomize, held against Kubernetes' own schemas.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { parseAllDocuments, stringify } from 'yaml';
import { runProcess } from '../scripts/harness/process.ts';
import { requireTool, skipWithout } from '../scripts/harness/tool.ts';
import { readTrigger } from '../sidecar/kubernetes/scaler/trigger.ts';
import { faultsOf, schemasIn } from './support/crd-schemas.ts';

const root = join(import.meta.dirname, '..');
const k8s = join(root, 'k8s');
const schemas = '1.36.0';

// biome-ignore lint/suspicious/noExplicitAny: objects of every kind, read by paths
type KubernetesObject = any;

// Under load each process takes its time, and there are dozens.
t.setTimeout(290_000);

const folder = mkdtempSync(join(tmpdir(), 'outrigger-kubernetes-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));

/** Every folder that kustomize builds by itself: overlays, and what stands alone beside them. */
const builds = readdirSync(k8s, { recursive: true, encoding: 'utf8' })
  .filter((path) => path.endsWith('kustomization.yaml'))
  .filter((path) => !/^kind: Component$/m.test(readFileSync(join(k8s, path), 'utf8')))
  .map((path) => path.slice(0, -'/kustomization.yaml'.length))
  // Parts without selectors of their own, which base/research and its siblings complete.
  .filter((path) => path !== 'base/agent')
  .sort();

async function build(t: Test, path: string): Promise<string> {
  const { code, output } = await runProcess(t, requireTool('kustomize'), ['build', join(k8s, path)]);
  if (code !== 0) throw new Error(`${path}: ${output}`);
  return output;
}

/** One run for all texts: loading the schemas is what takes time. */
async function validate(t: Test, texts: ReadonlyMap<string, string>): Promise<void> {
  const files = Array.from(texts, ([name, text]) => {
    const file = join(folder, `${name.replaceAll('/', '-')}.yaml`);
    writeFileSync(file, text);
    return file;
  });
  const args = ['--kubernetes-version', schemas, '--strict', '--quiet', ...files];
  const { code, output } = await runProcess(t, requireTool('kubernetes-validate'), args, {
    limitMs: 200_000,
  });
  t.equal(code, 0, `${[...texts.keys()].join(' ')}: ${output}`);
}

function objectsIn(text: string): KubernetesObject[] {
  return parseAllDocuments(text)
    .map((document) => document.toJS())
    .filter((object) => object !== null);
}

const isOfCertManager = ({ apiVersion }: KubernetesObject): boolean => apiVersion === 'cert-manager.io/v1';
const isOfKeda = ({ apiVersion }: KubernetesObject): boolean => apiVersion === 'keda.sh/v1alpha1';

/** Kubernetes' own schemas know nothing of the kinds of cert-manager and KEDA. */
function ownKinds(text: string): string {
  const own = objectsIn(text).filter((object) => !isOfCertManager(object) && !isOfKeda(object));
  return own.map((object) => stringify(object)).join('---\n');
}

async function inject(t: Test, text: string, ...flags: string[]): Promise<string> {
  const file = join(folder, 'input.yaml');
  writeFileSync(file, text);
  const args = [join(root, 'sidecar/main.ts'), 'inject', '-f', file, ...flags];
  const script = 'exec "$@" 2>/dev/null';
  const { code, output } = await runProcess(t, 'sh', ['-c', script, 'sh', process.execPath, ...args]);
  t.equal(code, 0, 'outrigger inject succeeds');
  return output;
}

const skip = skipWithout('kustomize', 'kubernetes-validate');

t.test('every overlay builds, and every object matches the schemas of Kubernetes', { skip }, async (t) => {
  t.ok(builds.filter((path) => path.startsWith('overlays/')).length >= 5, builds.join(' '));
  const built = new Map<string, string>();
  for (const path of builds) built.set(path, ownKinds(await build(t, path)));
  await validate(t, built);
  // The validator itself: it must be able to say no.
  const file = join(folder, 'wrong.yaml');
  writeFileSync(
    file,
    'apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: [{name: a, imagge: b}]}\n',
  );
  const args = ['--kubernetes-version', schemas, '--strict', '--quiet', file];
  t.not((await runProcess(t, requireTool('kubernetes-validate'), args)).code, 0);
});

t.test(
  "inject's output for every overlay is valid, and a second injection changes nothing",
  { skip },
  async (t) => {
    const made = new Map<string, string>();
    for (const path of [
      'overlays/injected',
      'overlays/intercepted',
      'overlays/local',
      'overlays/production',
      'overlays/mutual-tls',
      'overlays/endpoint-slices',
      'overlays/bus',
      'overlays/tools',
      'overlays/domains',
      'overlays/capabilities',
      'overlays/scaler',
      'overlays/llm',
    ]) {
      const once = await inject(t, await build(t, path));
      made.set(`${path}-injected`, ownKinds(once));
      t.equal(await inject(t, once), once);
      const pods = objectsIn(once).filter(({ kind }) => kind === 'Deployment');
      t.ok(pods.length >= (path === 'overlays/domains' ? 2 : 4));
      for (const { metadata, spec } of pods) {
        const names = (spec.template.spec.initContainers ?? []).map(({ name }: KubernetesObject) => name);
        t.strictSame(
          names.filter((name: string) => name === 'outrigger').length,
          ['provider', 'outrigger-scaler', 'outrigger-llm'].includes(metadata.name) ? 0 : 1,
          `${path} ${metadata.name}`,
        );
      }
    }
    await validate(t, made);
  },
);

t.test('agents meet the requirements of a production cluster', { skip }, async (t) => {
  const objects = objectsIn(await build(t, 'overlays/production'));
  const of = (kind: string, name: string) =>
    objects.find((object) => object.kind === kind && object.metadata.name === name);
  for (const name of ['research-agent', 'writing-agent', 'code-agent']) {
    const { spec } = of('Deployment', name);
    const [container] = spec.template.spec.containers;
    t.strictSame(container.resources, {
      requests: { cpu: '250m', memory: '512Mi' },
      limits: { cpu: '500m', memory: '1Gi' },
    });
    for (const probe of ['startupProbe', 'readinessProbe', 'livenessProbe'])
      t.equal(container[probe].grpc.port, 50051);
    const key = container.env.find((entry: KubernetesObject) => entry.name === 'OPENAI_API_KEY');
    t.match(key, { valueFrom: { secretKeyRef: { name: 'openai' } } });
    const selector = { 'app.kubernetes.io/name': name };
    t.match(spec.template.metadata.labels, selector);
    for (const spread of spec.template.spec.topologySpreadConstraints)
      t.strictSame(spread.labelSelector.matchLabels, selector);
    t.match(of('Service', name), {
      spec: { selector, ports: [{ appProtocol: 'grpc', targetPort: 'grpc' }] },
    });
    t.match(of('Service', `${name}-headless`), {
      spec: { clusterIP: 'None', selector, ports: [{ port: 15006 }] },
    });
    t.match(of('PodDisruptionBudget', name), { spec: { selector: { matchLabels: selector } } });
    t.match(of('NetworkPolicy', name), { spec: { podSelector: { matchLabels: selector } } });
    t.match(of('HorizontalPodAutoscaler', name), { spec: { scaleTargetRef: { name } } });
    t.equal(spec.replicas, undefined, 'the autoscaler decides');
    t.ok(of('ServiceAccount', name));
    t.equal(container.env[0].value, '127.0.0.1:50051', 'sealed');
  }
  t.equal(of('Deployment', 'gateway').spec.replicas, 2);
  t.match(of('Namespace', 'agents').metadata.labels, {
    'outrigger.dev/inject': 'true',
    'pod-security.kubernetes.io/enforce': 'restricted',
  });
  t.notOk(
    objects.some(({ kind }) => kind === 'Secret'),
    'no key in the manifests',
  );
  const ports = objects
    .filter(({ kind, metadata }) => kind === 'NetworkPolicy' && /-agent$|gateway/.test(metadata.name))
    .flatMap(({ spec }) => [...(spec.ingress ?? []), ...(spec.egress ?? [])])
    .flatMap((rule: KubernetesObject) => (rule.ports ?? []).map(({ port }: KubernetesObject) => port));
  t.notOk(ports.includes(50051), 'sealed: no caller can bypass the sidecar');
});

t.test('without components every kind of selector still selects its pods', { skip }, async (t) => {
  const objects = objectsIn(await build(t, 'overlays/plain'));
  const templates = objects
    .filter(({ kind }) => kind === 'Deployment')
    .map(({ spec }) => spec.template.metadata.labels);
  const selects = (selector: Record<string, string>) =>
    templates.filter((labels) => Object.entries(selector).every(([key, value]) => labels[key] === value))
      .length;
  for (const { kind, metadata, spec } of objects) {
    if (kind === 'Service') t.equal(selects(spec.selector), 1, `Service ${metadata.name}`);
    if (kind === 'PodDisruptionBudget') t.equal(selects(spec.selector.matchLabels), 1, metadata.name);
    if (kind === 'NetworkPolicy' && metadata.name !== 'default-deny')
      t.equal(selects(spec.podSelector.matchLabels), 1, metadata.name);
  }
});

t.test(
  'an added agent appears wherever agents are listed, or the test names the missing place',
  { skip },
  async (t) => {
    const plain = objectsIn(await build(t, 'overlays/plain'));
    const deployments = plain.filter(({ kind }) => kind === 'Deployment');
    const isAgent = ({ spec }: KubernetesObject) =>
      spec.template.metadata.labels['app.kubernetes.io/component'] === 'agent';
    const agents: string[] = deployments.filter(isAgent).map(({ metadata }) => metadata.name);
    t.ok(agents.length >= 3);
    const gateway = deployments.find(({ metadata }) => metadata.name === 'gateway');
    const addresses = gateway.spec.template.spec.containers[0].env.filter(({ name }: KubernetesObject) =>
      /_AGENT_ADDR$/.test(name),
    );
    t.strictSame(
      addresses.map(({ value }: KubernetesObject) => value).sort(),
      agents.map((name) => `${name}:50051`).sort(),
      'base/gateway/deployment.yaml',
    );
    for (const overlay of ['plain', 'mutual-tls', 'endpoint-slices', 'bus']) {
      const config = objectsIn(await build(t, `overlays/${overlay}`)).find(
        ({ kind, metadata }) => kind === 'ConfigMap' && metadata.name === 'outrigger',
      );
      const { outbound, inbound } = objectsIn(config.data['outrigger.yaml'])[0];
      t.strictSame(Object.keys(outbound.clusters).sort(), [...agents].sort(), `outrigger.yaml of ${overlay}`);
      t.match(inbound, { max_concurrent_calls: 32, queue: { max_calls: 64 } }, overlay);
      for (const [name, { tls, kubernetes }] of Object.entries<KubernetesObject>(outbound.clusters)) {
        const identities = [`spiffe://cluster.local/ns/agents/sa/${name}`];
        if (overlay === 'mutual-tls') t.strictSame(tls.allow_identities, identities);
        if (overlay === 'endpoint-slices') t.equal(kubernetes.service, name);
      }
    }
    const autoscalers = objectsIn(await build(t, 'overlays/production')).filter(
      ({ kind }) => kind === 'HorizontalPodAutoscaler',
    );
    t.strictSame(autoscalers.map(({ spec }) => spec.scaleTargetRef.name).sort(), [...agents].sort());
  },
);

/** By the name of the workload, what a Deployment of a built overlay is like once it has its sidecar. */
async function injectedPods(t: Test, path: string): Promise<Map<string, KubernetesObject>> {
  const objects = objectsIn(await inject(t, await build(t, path)));
  const deployments = objects.filter(({ kind }) => kind === 'Deployment');
  return new Map(deployments.map(({ metadata, spec }) => [metadata.name, spec.template.spec]));
}

t.test(
  'mutual TLS: each workload mounts its own certificate, for its service account',
  { skip: skip || skipWithout('certificate-crds', 'issuer-crds') },
  async (t) => {
    const objects = objectsIn(await build(t, 'overlays/mutual-tls'));
    const known = schemasIn(requireTool('certificate-crds'), requireTool('issuer-crds'));
    const certificates = objects.filter(({ kind }) => kind === 'Certificate');
    t.strictSame(
      objects.filter(isOfCertManager).flatMap((object) => faultsOf(known, object)),
      [],
    );
    const broken = { ...certificates[0], spec: { ...certificates[0].spec, secretNam: 'x' } };
    t.not(faultsOf(known, broken).length, 0, 'the schema can say no');
    const pods = await injectedPods(t, 'overlays/mutual-tls');
    t.equal(pods.size, 4);
    for (const [name, spec] of pods) {
      const [sidecar] = spec.initContainers;
      const volume = spec.volumes.find((each: KubernetesObject) => each.name === 'outrigger-tls');
      t.match(sidecar.volumeMounts[1], { name: 'outrigger-tls', mountPath: '/run/outrigger/tls' });
      const certificate = certificates.find((each) => each.spec.secretName === volume.secret.secretName);
      t.strictSame(certificate.spec.uris, [`spiffe://cluster.local/ns/agents/sa/${spec.serviceAccountName}`]);
      t.equal(spec.serviceAccountName, name);
      for (const key of name === 'gateway' ? [] : ['startupProbe', 'readinessProbe', 'livenessProbe'])
        t.match(spec.containers[0][key], { httpGet: { path: '/healthz/app', port: 15021 } });
    }
    const policies = objects.filter(({ kind }) => kind === 'NetworkPolicy');
    t.notMatch(JSON.stringify(policies), /50051/, 'no caller can bypass the sidecar in plain text');
  },
);

t.test(
  "the scaler: KEDA's schema has each ScaledObject, whose triggers name the agent's type and pods",
  { skip: skip || skipWithout('scaled-object-crds', 'trigger-authentication-crds') },
  async (t) => {
    const objects = objectsIn(await build(t, 'overlays/scaler'));
    const known = schemasIn(requireTool('scaled-object-crds'), requireTool('trigger-authentication-crds'));
    const scaled = objects.filter(isOfKeda);
    t.strictSame(
      scaled.flatMap((object) => faultsOf(known, object)),
      [],
    );
    const broken = { ...scaled[0], spec: { ...scaled[0].spec, falback: {} } };
    t.not(faultsOf(known, broken).length, 0, 'the schema can say no');
    const of = (kind: string, name: string) =>
      objects.find((object) => object.kind === kind && object.metadata.name === name);
    const pods = await injectedPods(t, 'overlays/scaler');
    t.equal(scaled.length, 3);
    for (const { metadata, spec } of scaled) {
      const { name } = metadata;
      const deployment = of('Deployment', spec.scaleTargetRef.name);
      t.equal(deployment.spec.replicas, undefined, `${name}: KEDA decides`);
      t.equal(spec.minReplicaCount, 0, `${name} starts from zero`);
      t.ok(spec.fallback.replicas > 0, name);
      const [queue, p99] = spec.triggers;
      t.match(queue, { type: 'external-push', metricType: 'AverageValue', metadata: { metric: 'queue' } });
      t.match(p99, { type: 'external', metricType: 'Value', metadata: { metric: 'p99' } });
      for (const trigger of [queue, p99]) {
        const [key, value] = trigger.metadata.podSelector.split('=');
        t.equal(deployment.spec.template.metadata.labels[key], value, `${name} ${trigger.name}`);
        const [host, port] = trigger.metadata.scalerAddress.split(':');
        t.equal(host, 'outrigger-scaler.agents.svc');
        t.equal(of('Service', 'outrigger-scaler').spec.ports[0].port, Number(port));
        // The metadata are what the scaler understands.
        const ref = {
          name,
          namespace: 'agents',
          metadata: new Map(Object.entries<string>(trigger.metadata)),
        };
        t.equal(readTrigger(ref, ['agents']).metric, trigger.metadata.metric);
      }
      const types = pods
        .get(name)
        .initContainers[0].env.find(
          (entry: KubernetesObject) => entry.name === 'OUTRIGGER_BUS_CONSUME_AGENT_TYPES',
        );
      t.strictSame(JSON.parse(types.value), [queue.metadata.agentType], `${name} takes these tasks`);
    }
    const { rules } = of('Role', 'outrigger-scaler');
    t.strictSame(rules, [{ apiGroups: [''], resources: ['pods'], verbs: ['list', 'patch'] }]);
    const allowed = (policy: KubernetesObject) =>
      policy.spec.ingress.filter((rule: KubernetesObject) =>
        JSON.stringify(rule).includes('outrigger-scaler'),
      );
    for (const [name, port] of [
      ['research-agent', 15020],
      ['writing-agent', 15020],
      ['code-agent', 15020],
      ['nats', 4222],
    ] as const)
      t.equal(allowed(of('NetworkPolicy', name))[0].ports[0].port, port, `${name} admits the scaler`);
  },
);

t.test(
  'the LLM service: two replicas, whose keys come from Secrets and reach only its pods',
  { skip },
  async (t) => {
    const objects = objectsIn(await build(t, 'overlays/llm'));
    const of = (kind: string, name: string) =>
      objects.find((object) => object.kind === kind && object.metadata.name === name);
    const { spec } = of('Deployment', 'outrigger-llm');
    const selector = { 'app.kubernetes.io/name': 'outrigger-llm' };
    t.equal(spec.replicas, 2);
    t.match(of('PodDisruptionBudget', 'outrigger-llm').spec.selector.matchLabels, selector);
    t.match(of('Service', 'outrigger-llm').spec, { selector, ports: [{ port: 15002, targetPort: 'llm' }] });
    t.match(of('NetworkPolicy', 'outrigger-llm').spec.podSelector.matchLabels, selector);
    const [container] = spec.template.spec.containers;
    const port = (name: string) =>
      container.ports.find((one: KubernetesObject) => one.name === name).containerPort;
    t.strictSame([port('llm'), port('metrics'), port('health')], [15_002, 15_020, 15_021]);
    const secretOf = (env: KubernetesObject[], name: string) =>
      env.find((one) => one.name === name).valueFrom.secretKeyRef.name;
    t.equal(secretOf(container.env, 'OPENAI_API_KEY'), 'openai');
    for (const agent of ['research-agent', 'writing-agent', 'code-agent']) {
      const { env } = of('Deployment', agent).spec.template.spec.containers[0];
      t.equal(secretOf(env, 'OPENAI_API_KEY'), 'llm-callers', `${agent} has no key of the provider`);
    }
    t.notOk(objects.some(({ kind }) => kind === 'Secret'));
    const admitted = JSON.stringify(of('NetworkPolicy', 'nats').spec.ingress);
    t.match(admitted, /outrigger-llm/, 'the replicas reach the bus');
    const configs = objects.filter(
      ({ kind, metadata }) => kind === 'ConfigMap' && /^outrigger/.test(metadata.name),
    );
    t.equal(configs.length, 2);
    for (const { metadata, data } of configs)
      for (const [name, text] of Object.entries<string>(data)) {
        const file = join(folder, name);
        writeFileSync(file, text);
        const { code, output } = await runProcess(t, process.execPath, [
          join(root, 'sidecar/main.ts'),
          'check',
          '-c',
          file,
        ]);
        t.equal(code, 0, `${metadata.name}: ${output}`);
      }
    const { volumes } = spec.template.spec;
    t.ok(configs.some(({ metadata }) => metadata.name === volumes[0].configMap.name));
  },
);

t.test('without KEDA, autoscalers read the tasks of the bus, too', { skip }, async (t) => {
  const objects = objectsIn(await build(t, 'overlays/bus-autoscaling'));
  const autoscalers = objects.filter(({ kind }) => kind === 'HorizontalPodAutoscaler');
  t.equal(autoscalers.length, 3);
  for (const { metadata, spec } of autoscalers) {
    const external = spec.metrics.flatMap((metric: KubernetesObject) => metric.external ?? []);
    t.strictSame(
      external.map(({ metric }: KubernetesObject) => metric),
      [
        {
          name: 'outrigger_bus_tasks',
          selector: { matchLabels: { agent_type: metadata.name.split('-')[0] } },
        },
      ],
    );
  }
});

t.test('EndpointSlices: each sidecar may list them, and only it has a token', { skip }, async (t) => {
  const objects = objectsIn(await build(t, 'overlays/endpoint-slices'));
  const rules = objects.filter(({ kind }) => /Role$/.test(kind)).flatMap((role) => role.rules);
  t.strictSame(rules.map((rule) => `${rule.verbs} ${rule.resources}`).sort(), [
    'get nodes',
    'list,watch endpointslices',
  ]);
  const pods = await injectedPods(t, 'overlays/endpoint-slices');
  const bound = objects.filter(({ kind }) => /RoleBinding$/.test(kind));
  t.equal(bound.length, 2);
  for (const [name, spec] of pods) {
    t.equal(spec.automountServiceAccountToken, false, name);
    const [sidecar] = spec.initContainers;
    const mounts = ({ volumeMounts = [] }: KubernetesObject) =>
      volumeMounts.map(({ mountPath }: KubernetesObject) => mountPath);
    t.ok(mounts(sidecar).includes('/var/run/secrets/kubernetes.io/serviceaccount'), name);
    t.notOk(mounts(spec.containers[0]).some((path: string) => path.includes('serviceaccount')));
    t.ok(sidecar.env.some((entry: KubernetesObject) => entry.name === 'NODE_NAME'));
    for (const { subjects } of bound)
      t.ok(subjects.some((subject: KubernetesObject) => subject.name === spec.serviceAccountName));
    const policy = objects.find((each) => each.kind === 'NetworkPolicy' && each.metadata.name === name);
    const open = policy.spec.egress
      .filter((rule: KubernetesObject) => rule.to === undefined)
      .flatMap((rule: KubernetesObject) => rule.ports.map(({ port }: KubernetesObject) => port));
    t.strictSame(open, [443, 6443], `${name} may reach the API server`);
  }
});

t.test("outrigger check accepts the configuration of the manifests' sidecars", async (t) => {
  for (const part of ['base/gateway', 'components/endpoint-slices', 'components/bus']) {
    const file = join(k8s, part, 'outrigger.yaml');
    const args = [join(root, 'sidecar/main.ts'), 'check', '--config', file];
    const { code, output } = await runProcess(t, process.execPath, args);
    t.equal(code, 0, output);
  }
});

t.test('the webhook has no permission that it does not use', { skip }, async (t) => {
  const objects = objectsIn(await build(t, 'overlays/webhook'));
  const rules = objects.filter(({ kind }) => /Role$/.test(kind)).flatMap((role) => role.rules);
  const rights = rules.map((rule) => `${rule.verbs} ${rule.resources} ${rule.resourceNames}`).sort();
  t.strictSame(rights, [
    'get,patch mutatingwebhookconfigurations outrigger',
    'get,update secrets outrigger-webhook-certificate',
  ]);
  const deployment = objects.find(({ kind }) => kind === 'Deployment');
  const [container] = deployment.spec.template.spec.containers;
  t.equal(container.env[0].value, container.image, "the sidecar's image is the webhook's own");
  const closed = objectsIn(await build(t, 'overlays/production-webhook'));
  const policies = (all: KubernetesObject[]) =>
    all
      .find(({ kind }) => kind === 'MutatingWebhookConfiguration')
      .webhooks.map((each: KubernetesObject) => each.failurePolicy);
  t.strictSame(policies(objects), ['Ignore', 'Ignore']);
  t.strictSame(policies(closed), ['Fail', 'Fail']);
});

/** `test/inject/NAME.in.yaml` becomes `NAME.out.yaml`; UPDATE_GOLDEN=1 writes what it becomes now. */
t.test("inject's output equals the golden files", async (t) => {
  const goldens = join(root, 'test/inject');
  const inputs = readdirSync(goldens).filter((name) => name.endsWith('.in.yaml'));
  t.ok(inputs.length >= 3);
  for (const name of inputs) {
    const output = await inject(
      t,
      readFileSync(join(goldens, name), 'utf8'),
      '--image=registry.example/outrigger:1',
    );
    const versionless = output.replaceAll(
      /(outrigger\.dev\/injected: |outrigger-intercept:)[\w.-]+/g,
      '$1VERSION',
    );
    const expected = join(goldens, name.replace('.in.', '.out.'));
    if (process.env['UPDATE_GOLDEN'] === '1') writeFileSync(expected, versionless);
    t.equal(versionless, readFileSync(expected, 'utf8'), name);
  }
});

t.test('inject reports problems, and then writes no YAML', async (t) => {
  const run = async (text: string, ...flags: string[]) => {
    const file = join(folder, 'bad.yaml');
    writeFileSync(file, text);
    const result = await runProcess(t, process.execPath, [
      join(root, 'sidecar/main.ts'),
      'inject',
      '-f',
      file,
      ...flags,
    ]);
    return { code: result.code, output: result.output };
  };
  t.match(await run('a: 1\n---\nb: [1\n'), { code: 64, output: /bad\.yaml: line [34]: / });
  t.match(
    await run(
      'kind: Pod\napiVersion: v1\nspec: {containers: [{name: a, ports: [{containerPort: 15006}]}]}\n',
    ),
    {
      code: 64,
      output: /^outrigger inject: Pod \(no name\): containerPort 15006/,
    },
  );
  t.match(
    await run(
      'a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d]\n',
    ),
    {
      code: 64,
      output: /alias/i,
    },
  );
  t.match(await run('a: 1\n', '--imagge=x'), { code: 64, output: /--imagge=x.*did you mean --image\?/ });
  t.match(await run('a: 1\n', '--otlp-endpoint=nowhere'), { code: 64, output: /takes a URL/ });
  const missing = await runProcess(t, process.execPath, [
    join(root, 'sidecar/main.ts'),
    'inject',
    '-f',
    '/nowhere.yaml',
  ]);
  t.match(missing, { code: 64, output: /nowhere\.yaml can't be read \(ENOENT\)/ });
});
