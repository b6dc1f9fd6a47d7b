// The overlay with a message bus: what each pod gets, and that the servers' own configuration is one that they accept.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { parse, parseAllDocuments } from 'yaml';
import { runProcess } from '../scripts/harness/process.ts';
import { requireTool, skipWithout } from '../scripts/harness/tool.ts';

const root = join(import.meta.dirname, '..');
const folder = mkdtempSync(join(tmpdir(), 'outrigger-kubernetes-bus-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
t.setTimeout(200_000);

// biome-ignore lint/suspicious/noExplicitAny: objects of every kind, read by paths
type KubernetesObject = any;

function objectsIn(text: string): KubernetesObject[] {
  return parseAllDocuments(text)
    .map((document) => document.toJS())
    .filter((object) => object !== null);
}

t.test(
  'each agent takes its own tasks, and nobody else reaches the bus',
  { skip: skipWithout('kustomize') },
  async (t) => {
    const built = await runProcess(t, requireTool('kustomize'), ['build', join(root, 'k8s/overlays/bus')]);
    t.equal(built.code, 0, built.output);
    const file = join(folder, 'bus.yaml');
    writeFileSync(file, built.output);
    const main = join(root, 'sidecar/main.ts');
    const script = 'exec "$@" 2>/dev/null';
    const injected = await runProcess(t, 'sh', [
      '-c',
      script,
      'sh',
      process.execPath,
      main,
      'inject',
      '-f',
      file,
    ]);
    t.equal(injected.code, 0);
    const objects = objectsIn(injected.output);
    const config = objects.find(
      ({ kind, metadata }) => kind === 'ConfigMap' && metadata.name === 'outrigger',
    );
    const { bus, outbound } = parse(config.data['outrigger.yaml']);
    const servers = objects.find(({ kind }) => kind === 'StatefulSet');
    t.equal(bus.replicas, servers.spec.replicas, 'a task is on every server');

    const types = new Map<string, unknown>();
    for (const { kind, metadata, spec } of objects) {
      if (kind !== 'Deployment') continue;
      const [sidecar] = spec.template.spec.initContainers;
      const own = sidecar.env.find(
        ({ name }: KubernetesObject) => name === 'OUTRIGGER_BUS_CONSUME_AGENT_TYPES',
      );
      if (own !== undefined) types.set(metadata.name, JSON.parse(own.value));
    }
    const clusters = Object.entries<KubernetesObject>(outbound.clusters);
    t.strictSame(
      Object.fromEntries(types),
      Object.fromEntries(clusters.map(([name, { bus: type }]) => [name, [type]])),
      'somebody takes the tasks of each cluster, and the gateway takes none',
    );

    const names = bus.url.split(',').map((url: string) => new URL(url).hostname);
    t.strictSame(
      names,
      [0, 1, 2].map((n) => `${servers.metadata.name}-${n}.${servers.spec.serviceName}.agents.svc`),
    );
    const policies = objects.filter(({ kind }) => kind === 'NetworkPolicy');
    const toBus = policies.filter(({ spec }) => JSON.stringify(spec.egress ?? []).includes('4222'));
    t.strictSame(toBus.map(({ metadata }) => metadata.name).sort(), [
      'code-agent',
      'gateway',
      'research-agent',
      'writing-agent',
    ]);
    const [clients] = policies.find(({ metadata }) => metadata.name === 'nats').spec.ingress;
    t.strictSame(clients.from[0].podSelector.matchExpressions[0].values, ['agent', 'gateway']);
    t.notOk(servers.spec.template.spec.initContainers, 'the servers have no sidecar');
  },
);

t.test("a server accepts the manifests' configuration", { skip: skipWithout('nats-server') }, async (t) => {
  const config = readFileSync(join(root, 'k8s/components/bus/nats.conf'), 'utf8');
  const check = async (text: string) => {
    const file = join(folder, 'nats.conf');
    writeFileSync(file, text);
    return runProcess(t, requireTool('nats-server'), ['-t', '-c', file], {
      env: { POD_NAME: 'nats-0' },
    });
  };
  t.match(await check(config), { code: 0 });
  t.not((await check(config.replace('max_file:', 'max_fil:'))).code, 0, 'the check can say no');
});
