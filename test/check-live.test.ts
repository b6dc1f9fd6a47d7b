// `outrigger check --live` on real servers, and the warnings of a configuration in the log, in the findings and in the metrics.
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { TestAuthority } from '../scripts/harness/certificates.ts';
import { openBlackHole } from '../scripts/harness/faults/black-hole.ts';
import { freePort } from '../scripts/harness/free-port.ts';
import { runProcess } from '../scripts/harness/process.ts';
import { startRawServer } from '../scripts/harness/raw-grpc.ts';
import { startSidecar } from '../scripts/harness/sidecar.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { FakeKubernetesApi } from './support/kubernetes-api.ts';

t.setTimeout(290_000);

const main = join(import.meta.dirname, '..', 'sidecar', 'main.ts');
const KEY = 'sk-live-0123456789';

interface Result {
  readonly level: string;
  readonly path: string;
  readonly line: number | null;
  readonly target: string;
  readonly message: string;
  readonly remedy: string;
}
interface Report {
  readonly ok: boolean;
  readonly results: readonly Result[];
  readonly sent: readonly string[];
}

function check(t: Test, file: string, env: Record<string, string> = {}, ...args: string[]) {
  return runProcess(t, process.execPath, [main, 'check', '--config', file, '--live', ...args], { env });
}

async function report(t: Test, file: string, env: Record<string, string>) {
  const { code, output } = await check(t, file, env, '--output', 'json');
  t.notMatch(output, KEY, 'a report never holds a key');
  return { code, ...(JSON.parse(output.slice(output.indexOf('{\n'))) as Report) };
}

/** A provider that knows one key, and remembers what it was asked. */
async function startProvider(t: Test, answer: number) {
  const requests: string[] = [];
  const server = createServer((request, response) => {
    requests.push(`${request.method} ${request.url}`);
    const known = request.headers.authorization === `Bearer ${KEY}`;
    response.writeHead(known ? answer : 401, { 'content-type': 'application/json' }).end('{"data":[]}');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`, requests };
}

t.test('check --live tells what only the network can', async (t) => {
  const app = await startRawServer(t);
  const well = await startSidecar(t, { inbound: { app: app.address } });
  const authority = await TestAuthority.make('live');
  const hour = 3_600_000;
  const ends = Date.now() + 20 * hour;
  const { cert, key } = await authority.issue({ names: ['127.0.0.1'], notAfterMs: ends });
  const other = await TestAuthority.make('another');
  const folder = t.testdir({ cert, key, ca: authority.ca, other: other.ca });
  const tls = { cert: `${folder}/cert`, key: `${folder}/key` };
  const secure = await startSidecar(t, { inbound: { app: app.address, tls } });
  const silent = `127.0.0.1:${await freePort()}`;
  await openBlackHole(t, silent);
  const dead = `127.0.0.1:${await freePort()}`;
  const web = await startProvider(t, 200);
  const failing = await startProvider(t, 500);
  const webAddress = new URL(web.url).host;
  const file = `${folder}/outrigger.yaml`;
  writeFileSync(
    file,
    `inbound: { app: "${app.address}" }
outbound:
  clusters:
    well: { endpoints: ["127.0.0.1:${well.inboundPort}"] }
    ill:
      endpoints:
        - "${dead}"
        - "${silent}"
        - "${webAddress}"
        - "no-such-name.invalid:50051"
    named: { dns: "no-such-name.invalid:50051" }
    soon: { endpoints: ["127.0.0.1:${secure.inboundPort}"], tls: { ca: ${folder}/ca } }
    stranger: { endpoints: ["127.0.0.1:${secure.inboundPort}"], tls: { ca: ${folder}/other } }
    plain: { endpoints: ["127.0.0.1:${well.inboundPort}"], tls: { ca: ${folder}/ca } }
llm:
  upstreams:
    - { name: good, url: "${web.url}", api_key_env: GOOD_KEY }
    - { name: refused, url: "${web.url}", api_key_env: BAD_KEY }
    - { name: unset, url: "${web.url}?a=1", api_key_env: UNSET_KEY }
    - { name: failing, url: "${failing.url}", api_key_env: GOOD_KEY }
    - { name: broken, url: "${web.url}", api_key_env: BROKEN_KEY }
admin: { listen: 0.0.0.0:15000 }
`,
  );
  const env = { GOOD_KEY: KEY, BAD_KEY: 'wrong', BROKEN_KEY: `${KEY}\n` };
  const { code, ok, results, sent } = await report(t, file, env);
  t.match({ code, ok }, { code: 1, ok: false });
  const of = (path: string, target = '') =>
    results.find((result) => result.path === path && result.target.includes(target));
  const clusters = 'outbound.clusters';
  t.match(of('inbound.app'), { level: 'ok', message: /speaks HTTP\/2, and has no health service/ });
  t.match(of(`${clusters}.well.endpoints[0]`), { level: 'ok', message: /speaks gRPC, and serves/ });
  t.match(of(`${clusters}.ill.endpoints[0]`), {
    level: 'problem',
    line: 7,
    message: /ECONNREFUSED|refused/,
    remedy: /start the agent/,
  });
  t.match(of(`${clusters}.ill.endpoints[1]`), { level: 'problem', line: 8 });
  t.match(of(`${clusters}.ill.endpoints[2]`), { level: 'problem', line: 9, message: /HTTP/ });
  t.match(of(`${clusters}.ill.endpoints[3]`), { level: 'problem', line: 10, message: /does not resolve/ });
  t.match(of(`${clusters}.named.dns`), { level: 'problem', line: 11, message: /does not resolve/ });
  t.match(of(`${clusters}.soon.endpoints[0]`), { level: 'warning', message: /certificate expires soon/ });
  t.match(of(`${clusters}.stranger.endpoints[0]`), { level: 'problem', message: /tls_|authority|unknown/i });
  t.match(of(`${clusters}.plain.endpoints[0]`), { level: 'problem', message: /does not speak TLS/ });
  t.match(of('llm.upstreams[0]'), { level: 'ok', message: 'it answers, and takes the key of GOOD_KEY' });
  t.match(of('llm.upstreams[1].api_key_env'), {
    level: 'problem',
    line: 18,
    message: /refuses the key of BAD_KEY/,
  });
  t.match(of('llm.upstreams[2]'), { level: 'ok', message: /401 without a key/ });
  t.match(of('llm.upstreams[3]'), { level: 'problem', message: /it fails \(500\)/ });
  t.match(of('llm.upstreams[4].api_key_env'), { level: 'problem', message: /BROKEN_KEY is no key/ });
  t.match(of('admin.listen'), { level: 'warning', line: 22, message: /open beyond this machine/ });
  t.equal(sent.length, 4);
  t.match(
    sent[0],
    /^GET http:\/\/127\.0\.0\.1:\d+\/v1\/models with the key of GOOD_KEY; it costs no tokens$/,
  );
  t.ok(
    [...web.requests, ...failing.requests].every((request) => /^GET \/v1\/models(\?a=1)?$/.test(request)),
    'nothing that costs was sent',
  );

  const text = await check(t, file, env);
  t.equal(text.code, 1);
  t.match(text.output, `problem ${file}:7:11: ${clusters}.ill.endpoints[0] ${dead}: `);
  t.match(text.output, /^sent {4}GET http:.*costs no tokens$/m);
  t.match(text.output, /\n\d+ problems, 2 warnings\n$/);

  writeFileSync(
    file,
    `inbound: { app: "${app.address}" }\nllm: { upstreams: [{ name: a, url: "${web.url}" }] }\n`,
  );
  const fine = await check(t, file);
  t.equal(fine.code, 0, fine.output);
  t.match(
    fine.output,
    /^ok {6}inbound\.app .*\nok {6}llm\.upstreams\[0\] .*\nsent .*\n0 problems, 0 warnings\n$/,
  );
});

t.test('check --live greets the bus, and makes nothing there', async (t) => {
  const greet = async (greeting: string): Promise<number> => {
    const server = createTcpServer((socket) => socket.on('error', () => {}).end(greeting));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    t.teardown(() => server.close());
    return (server.address() as AddressInfo).port;
  };
  const ports = [
    await greet('INFO {"server_id":"A"}\r\n'),
    await greet('HTTP/1.1 400\r\n\r\n'),
    await freePort(),
  ];
  const folder = t.testdir({ file: '' });
  const looked = async (url: string) => {
    const file = join(folder, 'outrigger.yaml');
    writeFileSync(
      file,
      JSON.stringify({
        inbound: { app: 'none' },
        llm: { upstreams: [{ name: 'a', url: 'http://127.0.0.1:1/v1' }] },
        bus: { url },
      }),
    );
    const { results } = await report(t, file, {});
    return results.filter(({ path }) => path === 'bus.url').map(({ level, message }) => [level, message]);
  };
  t.match(await looked(`nats://${ports.map((port) => `127.0.0.1:${port}`).join()}`), [
    ['ok', 'a NATS server answers'],
    ['problem', 'what answers there is no NATS server'],
    ['problem', /connecting failed/],
  ]);
  t.match(await looked(`file:${folder}/new/tasks.db`), [['ok', /can be written/]]);
  t.match(await looked(`file:${folder}/file/tasks.db`), [['problem', /is no folder/]]);
});

t.test('check --live finds the Services that lead past the sidecars', async (t) => {
  const app = await startRawServer(t);
  const { url } = await startProvider(t, 200);
  const api = await FakeKubernetesApi.start(t);
  const labels = { app: 'research' };
  const service = (name: string, targetPort: string | number) => ({
    metadata: { name, namespace: 'agents' },
    spec: { selector: labels, clusterIP: '10.0.0.1', ports: [{ port: 50_051, targetPort }] },
  });
  const sidecar = {
    name: 'outrigger',
    restartPolicy: 'Always',
    env: [{ name: 'OUTRIGGER_INBOUND_APP', value: '127.0.0.1:50051' }],
    ports: [{ containerPort: 15_006, name: 'grpc' }],
  };
  const containers = [{ name: 'research', ports: [{ containerPort: 50_051 }] }];
  const pod = (annotations: Record<string, string>) => ({
    metadata: { name: 'research-0', namespace: 'agents', labels, annotations },
    spec: { initContainers: [sidecar], containers },
  });
  api.services = [service('research', 'grpc'), service('past', 50_051)];
  api.pods = [pod({})];
  const file = `${t.testdir({})}/outrigger.yaml`;
  const upstreams = `llm: { upstreams: [{ name: a, url: "${url}" }] }`;
  writeFileSync(file, `inbound: { app: "${app.address}" }\n${upstreams}\n`);
  const look = () => check(t, file, { KUBECONFIG: api.kubeconfig }, '--services', 'agents');
  const past = await look();
  t.equal(past.code, 0, `calls succeed, so it is a warning: ${past.output}`);
  t.match(
    past.output,
    /^warning Service agents\/past port 50051: its targetPort 50051 is the app's own port/m,
  );
  t.notMatch(past.output, 'agents/research');
  api.pods = [pod({ 'outrigger.dev/intercept': 'true' })];
  t.match(
    (await look()).output,
    /^ok {6}namespace agents: no Service leads past the sidecars of its 1 injected pods$/m,
  );
  api.failWith = 403;
  t.match(await look(), { code: 1, output: /namespace agents: its Services can not be listed/ });
});

t.test(
  'a sidecar tells mistakes in its configuration in its log, its findings and its metrics',
  async (t) => {
    const app = await startRawServer(t);
    const sidecar = await startSidecar(t, {
      inbound: { app: app.address },
      admin: { listen: `0.0.0.0:${await freePort()}` },
      outbound: {
        routes: [{ cluster: 'a' }, { match: { authority: 'b' }, cluster: 'a' }],
        clusters: { a: { dns: 'no-such-name.invalid:1' } },
      },
      llm: { upstreams: [{ name: 'p', url: 'https://p.example/v1', api_key_env: 'UNSET_KEY' }] },
    });
    t.match(sidecar.logs(), /admin\.listen: is open beyond this machine/);
    t.match(sidecar.logs(), /outbound\.routes\[1\]: gets no call/);
    const findings = await waitUntil('the findings are there', async () => {
      const live = await fetch(`http://127.0.0.1:${sidecar.adminPort}/live?format=json`);
      const { now } = (await live.json()) as {
        now: { findings: { kind: string; severity: string; text: string; about: { setting?: string } }[] };
      };
      return now.findings.some(({ kind }) => kind === 'no_endpoint') && now.findings;
    });
    const mistakes = findings.filter(({ kind }) => kind === 'configuration');
    t.strictSame(mistakes.map(({ about }) => about.setting).sort(), [
      'admin.listen',
      'llm.upstreams[0].api_key_env',
      'outbound.routes[1]',
    ]);
    t.ok(mistakes.every(({ severity }) => severity === 'warn'));
    t.match(
      findings.find(({ kind }) => kind === 'no_endpoint'),
      { text: /^No endpoint of a is known: .*no-such-name\.invalid/ },
    );
    const metrics = await (await fetch(`http://127.0.0.1:${sidecar.metricsPort}/metrics`)).text();
    t.match(metrics, /outrigger_findings\{[^}]*kind="configuration"[^}]*\} 1/);
  },
);
