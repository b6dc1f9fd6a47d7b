// The probes of an injected pod, asked as a kubelet asks them, of a real sidecar: with and without TLS on its port.
import { join } from 'node:path';
import * as grpc from '@grpc/grpc-js';
import * as protoLoader from '@grpc/proto-loader';
import t, { type Test } from 'tap';
import { SecretVolume, TestAuthority } from '../scripts/harness/certificates.ts';
import { freePort } from '../scripts/harness/free-port.ts';
import { startProcess } from '../scripts/harness/process.ts';
import { RawClient } from '../scripts/harness/raw-grpc.ts';
import { type Sidecar, startSidecar } from '../scripts/harness/sidecar.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { injectPod } from '../sidecar/kubernetes/inject/patch.ts';
import { defaultInjectSettings, PORTS } from '../sidecar/kubernetes/inject/settings.ts';
import { readHealthService } from '../sidecar/task/health-message.ts';
import { answerWith, type SeenCall, startUpstream, type Upstream } from './support/upstream.ts';

t.setTimeout(290_000);

const definition = protoLoader.loadSync(join(import.meta.dirname, '..', 'proto', 'health.proto'));
const { Health } = (
  grpc.loadPackageDefinition(definition) as unknown as {
    grpc: { health: { v1: { Health: grpc.ServiceClientConstructor } } };
  }
).grpc.health.v1;

interface Probe {
  readonly grpc?: { readonly port: number; readonly service?: string };
  readonly httpGet?: { readonly path: string; readonly port: number; readonly scheme: string };
}

/** The app's probe of each service, as injection leaves them; `''` is asked for without a name. */
function probesOf(services: readonly string[], annotations: Record<string, string>): Map<string, Probe> {
  return new Map(
    services.map((service) => {
      const readinessProbe = { grpc: { port: 50051, ...(service === '' ? {} : { service }) } };
      const container = { name: 'agent', ports: [{ containerPort: 50051 }], readinessProbe };
      const pod = { metadata: { name: 'research-agent', annotations }, spec: { containers: [container] } };
      const injection = injectPod(pod, { settings: defaultInjectSettings('1'), version: '1' });
      if (injection.outcome !== 'injected') throw new Error(JSON.stringify(injection));
      const [{ readinessProbe: probe }] = injection.pod['spec']!['containers' as never] as [
        { readinessProbe: Probe },
      ];
      return [service, probe];
    }),
  );
}

/** Succeeds as a kubelet's does: HTTP by a status below 400, gRPC in plain text by SERVING, both within a limit. */
async function passes(sidecar: Sidecar, probe: Probe): Promise<boolean> {
  const ports = new Map<number, number>([
    [PORTS.inbound, sidecar.inboundPort],
    [PORTS.health, sidecar.healthPort],
  ]);
  if (probe.httpGet !== undefined) {
    const url = `http://127.0.0.1:${ports.get(probe.httpGet.port)}${probe.httpGet.path}`;
    const response = await fetch(url, {
      headers: { connection: 'close' },
      signal: AbortSignal.timeout(10_000),
    });
    await response.arrayBuffer();
    return response.status < 400;
  }
  const address = `127.0.0.1:${ports.get(probe.grpc!.port)}`;
  const client = new Health!(address, grpc.credentials.createInsecure());
  try {
    const deadline = Date.now() + 10_000;
    const answer = await new Promise<{ status: string } | undefined>((resolve) =>
      client['check']!(
        { service: probe.grpc!.service ?? '' },
        { deadline },
        (error: grpc.ServiceError | null, value: { status: string }) =>
          resolve(error === null ? value : undefined),
      ),
    );
    return Number(answer?.status) === 1 || answer?.status === 'SERVING';
  } finally {
    client.close();
  }
}

/** 1 is SERVING, 2 NOT_SERVING; a service that is not in there is NOT_FOUND. */
type Said = Map<string, number>;

function startApp(t: Test, said: Said, port = 0): Promise<Upstream> {
  const answer = (call: SeenCall): void => {
    const status = said.get(readHealthService(call.body, 5, call.body.length));
    if (status !== undefined) answerWith(call.stream, Buffer.from([8, status]));
    else call.stream.respond({ ':status': 200, 'grpc-status': '5' }, { endStream: true });
  };
  return startUpstream(t, {
    port,
    health: true,
    onCall: (call) => call.stream.on('end', () => answer(call)),
  });
}

const OWN = 'acme.v1.Research';
const services = ['', 'agent.AgentService', 'research-agent', OWN];

for (const tls of [false, true]) {
  t.test(`probes report the app's health, ${tls ? 'with inbound.tls' : 'in plain text'}`, async (t) => {
    const said: Said = new Map([
      ['', 1],
      [OWN, 1],
    ]);
    const app = await startApp(t, said);
    const issued = await (await TestAuthority.make()).issue({ names: ['research-agent'] });
    const authority = await TestAuthority.make();
    const files = new SecretVolume(t, { ...issued, ca: authority.ca });
    const section = tls ? { tls: { cert: files.cert, key: files.key, client_ca: files.ca } } : {};
    const sidecar = await startSidecar(t, {
      name: 'research-agent',
      inbound: { app: app.address, health: { interval: '50ms', timeout: '5s' }, ...section },
    });
    const probes = probesOf(services, tls ? { 'outrigger.dev/tls-secret': 'research-agent-tls' } : {});
    t.equal([...probes.values()].filter((probe) => probe.grpc !== undefined).length, tls ? 0 : 3);
    const found = async (): Promise<string> => {
      const results = await Promise.all([...probes.values()].map((probe) => passes(sidecar, probe)));
      return results.map((passed) => (passed ? 'ok' : 'no')).join(' ');
    };
    const becomes = (expected: string): Promise<unknown> =>
      waitUntil(`the probes say ${expected}`, async () => (await found()) === expected);

    await becomes('ok ok ok ok');
    said.set('', 2);
    await becomes('no no no ok');
    said.set('', 1).set(OWN, 2);
    await becomes('ok ok ok no');
    said.delete(OWN);
    t.equal(await passes(sidecar, probes.get(OWN)!), false, 'a service that the app does not know');
    said.set(OWN, 1);
    await becomes('ok ok ok ok');
    const { port } = app;
    await app.stop();
    await becomes('no no no no');
    await startApp(t, said, port);
    await becomes('ok ok ok ok');
    if (tls) {
      const client = new RawClient(t, sidecar.inboundPort);
      t.not((await client.unary(Buffer.from('x'))).code, grpc.status.OK, 'calls in plain text are refused');
    }
  });
}

t.test('health checks of many services do not make the app answer for each of them', async (t) => {
  const open: SeenCall[] = [];
  const app = await startUpstream(t, {
    health: true,
    onCall: (call) =>
      call.stream.on('end', () => {
        if (readHealthService(call.body, 5, call.body.length) === '')
          answerWith(call.stream, Buffer.from([8, 1]));
        else open.push(call);
      }),
  });
  const sidecar = await startSidecar(t, { inbound: { app: app.address, health: { timeout: '60s' } } });
  const ask = (query: string) => fetch(`http://127.0.0.1:${sidecar.healthPort}/healthz/app${query}`);
  const twice = [ask('?service=a.0'), ask('?service=a.0')];
  const others = Array.from({ length: 15 }, (_, index) => ask(`?service=a.${index + 1}`));
  await waitUntil('sixteen services are checked', () => open.length >= 16);
  t.equal((await ask('?service=a.16')).status, 503);
  t.equal(open.length, 16, 'two watchers of one service count once');
  t.equal((await ask('')).status, 200, 'the app as a whole is known all the same');
  for (const { stream } of open) answerWith(stream, Buffer.from([8, 1]));
  for (const response of await Promise.all([...twice, ...others])) t.equal(response.status, 200);
  t.equal((await ask(`?service=${'x'.repeat(257)}`)).status, 400);
  t.equal((await ask('?service=a&service=b')).status, 400);
});

t.test('an app too busy to answer for a service stays healthy, and a hung one does not', async (t) => {
  const app = await startUpstream(t, {
    health: true,
    onCall: (call) =>
      call.stream.on('end', () => {
        if (readHealthService(call.body, 5, call.body.length) === '')
          answerWith(call.stream, Buffer.from([8, 1]));
      }),
  });
  const sidecar = await startSidecar(t, { inbound: { app: app.address, health: { timeout: '200ms' } } });
  const url = `http://127.0.0.1:${sidecar.healthPort}/healthz/app?service=busy`;
  t.equal((await fetch(url)).status, 200);
  const port = await freePort();
  const script = join(import.meta.dirname, 'support', 'health-agent.ts');
  const agent = startProcess(t, process.execPath, [script, `${port}`, 'grpc', 'no-such-file']);
  await waitUntil('the agent listens', () => agent.logs().includes('listening'));
  const other = await startSidecar(t, {
    inbound: { app: `127.0.0.1:${port}`, health: { timeout: '200ms' } },
  });
  const otherUrl = `http://127.0.0.1:${other.healthPort}/healthz/app?service=any`;
  t.equal((await fetch(otherUrl)).status, 200);
  agent.kill('SIGSTOP');
  const response = await fetch(otherUrl);
  t.match(await response.json(), { ok: false, reason: /unreachable/ });
  t.equal(response.status, 503);
  agent.kill('SIGCONT');
  await waitUntil('it answers again', async () => (await fetch(otherUrl)).ok);
});
