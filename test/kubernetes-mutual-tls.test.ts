// The overlay for mutual TLS, run: its sidecars as processes, with the configuration, environment and certificates that
// an injected pod of it has. Only addresses and folders are this machine's.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import * as grpc from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { parseAllDocuments } from 'yaml';
import { SecretVolume, TestAuthority } from '../scripts/harness/certificates.ts';
import { freePort } from '../scripts/harness/free-port.ts';
import { runProcess } from '../scripts/harness/process.ts';
import { RawClient } from '../scripts/harness/raw-grpc.ts';
import { type Sidecar, startSidecar } from '../scripts/harness/sidecar.ts';
import { requireTool, skipWithout } from '../scripts/harness/tool.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { untilLogged } from './support/until-logged.ts';
import { startUpstream } from './support/upstream.ts';

t.setTimeout(290_000);

// biome-ignore lint/suspicious/noExplicitAny: objects of every kind, read by paths
type KubernetesObject = any;

const root = join(import.meta.dirname, '..');
const agents = ['research-agent', 'writing-agent', 'code-agent'];

async function injectedOverlay(t: Test): Promise<KubernetesObject[]> {
  const built = await runProcess(t, requireTool('kustomize'), [
    'build',
    join(root, 'k8s/overlays/mutual-tls'),
  ]);
  if (built.code !== 0) throw new Error(built.output);
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-overlay-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, 'overlay.yaml');
  writeFileSync(file, built.output);
  const command = [process.execPath, join(root, 'sidecar/main.ts'), 'inject', '-f', file];
  const injected = await runProcess(t, 'sh', ['-c', 'exec "$@" 2>/dev/null', 'sh', ...command]);
  t.equal(injected.code, 0);
  return parseAllDocuments(injected.output).map((document) => document.toJS());
}

/** The Secret that cert-manager would write for a Certificate. */
async function secretOf(
  t: Test,
  authority: TestAuthority,
  certificate: KubernetesObject,
): Promise<SecretVolume> {
  const { uris, dnsNames } = certificate.spec;
  return new SecretVolume(t, {
    ...(await authority.issue({ names: [...uris, ...dnsNames] })),
    ca: authority.ca,
  });
}

t.test(
  'agents of the overlay call each other only by mutual TLS',
  { skip: skipWithout('kustomize') },
  async (t) => {
    const objects = await injectedOverlay(t);
    const named = (kind: string, name: string) =>
      objects.find((object) => object.kind === kind && object.metadata.name === name);
    const podOf = (name: string) => named('Deployment', name).spec.template.spec;
    const authority = await TestAuthority.make();
    const inboundPorts = new Map<string, number>();
    for (const name of agents) inboundPorts.set(`${name}-headless`, await freePort());

    const start = async (name: string, app: string, certificate: KubernetesObject): Promise<Sidecar> => {
      const [sidecar] = podOf(name).initContainers;
      const files = await secretOf(t, authority, certificate);
      const mounted = sidecar.volumeMounts.map(({ mountPath }: KubernetesObject) => mountPath);
      t.strictSame(mounted, ['/etc/outrigger', '/run/outrigger/tls']);
      const text = named('ConfigMap', 'outrigger')
        .data['outrigger.yaml'].replaceAll('/run/outrigger/tls', dirname(files.cert))
        .replaceAll(
          /"([\w-]+-headless):15006"/g,
          (_: string, service: string) => `localhost:${inboundPorts.get(service)}`,
        );
      const config = parseAllDocuments(text)[0]!.toJS() as KubernetesObject;
      const port = inboundPorts.get(`${name}-headless`) ?? (await freePort());
      config.inbound.listen = `127.0.0.1:${port}`;
      const given = sidecar.env.filter(({ value }: KubernetesObject) => value !== undefined);
      const env = Object.fromEntries(given.map((entry: KubernetesObject) => [entry.name, entry.value]));
      // Pods have the ports of their targets for themselves, and the processes of a test share a machine.
      for (const [port] of String(env['OUTRIGGER_OUTBOUND_TARGETS'] ?? '').matchAll(/\b151\d\d\b/g))
        env['OUTRIGGER_OUTBOUND_TARGETS'] = env['OUTRIGGER_OUTBOUND_TARGETS'].replace(port, await freePort());
      t.match(env, { OUTRIGGER_INBOUND_APP: name === 'gateway' ? 'none' : '127.0.0.1:50051' });
      return startSidecar(t, config, {
        env: { ...env, OUTRIGGER_INBOUND_APP: app },
      });
    };
    const certificateOf = (name: string) => named('Certificate', `${name}-tls`);
    const writer = await startUpstream(t, { name: 'written' });
    const writing = await start('writing-agent', writer.address, certificateOf('writing-agent'));
    const research = await start(
      'research-agent',
      (await startUpstream(t)).address,
      certificateOf('research-agent'),
    );
    const gateway = await start('gateway', 'none', certificateOf('gateway'));

    for (const caller of [research, gateway]) {
      const client = new RawClient(t, caller.outboundPort, { 'grpc.default_authority': 'writing-agent' });
      const answer = await waitUntil('the agent is reached', async () => {
        const found = await client.unary(Buffer.from('x'));
        return found.code === grpc.status.OK ? found : undefined;
      });
      t.equal(String(answer.response), 'written');
    }
    const plain = await new RawClient(t, writing.inboundPort).unary(Buffer.from('x'));
    t.equal(plain.code, grpc.status.UNAVAILABLE, 'a caller without a certificate is refused');
    await untilLogged(t, writing, /tls_plain_text/);

    const probe = podOf('writing-agent').containers[0].readinessProbe.httpGet;
    t.equal((await fetch(`http://127.0.0.1:${writing.healthPort}${probe.path}`)).status, 200);
    const { readinessProbe } = podOf('writing-agent').initContainers[0];
    t.equal(
      (await fetch(`http://127.0.0.1:${writing.healthPort}${readinessProbe.httpGet.path}`)).status,
      200,
    );

    const stranger = structuredClone(certificateOf('research-agent'));
    stranger.spec.uris = ['spiffe://cluster.local/ns/elsewhere/sa/research-agent'];
    const outside = await start('gateway', 'none', stranger);
    const client = new RawClient(t, outside.outboundPort, { 'grpc.default_authority': 'writing-agent' });
    const refused = await client.unary(Buffer.from('x'), { deadline: Date.now() + 20_000 });
    t.not(refused.code, grpc.status.OK, 'a service account of another namespace is refused');
    await waitUntil('it says why', () => writing.logs().includes('tls_identity'));

    const impostor = structuredClone(certificateOf('code-agent'));
    impostor.spec.uris = ['spiffe://cluster.local/ns/agents/sa/writing-agent'];
    await start('code-agent', writer.address, impostor);
    const deceived = new RawClient(t, research.outboundPort, { 'grpc.default_authority': 'code-agent' });
    const found = await deceived.unary(Buffer.from('x'), { deadline: Date.now() + 20_000 });
    t.not(found.code, grpc.status.OK, 'an agent is called by its own name only');
    await waitUntil('the caller says why', () => /tls_wrong_name|tls_identity/.test(research.logs()));
  },
);
