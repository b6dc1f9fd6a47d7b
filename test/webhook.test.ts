// The webhook as a process: real TLS, real AdmissionReviews, and everything that is none. Its certificate's life on a
// virtual clock.
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { type Agent, request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ConnectionOptions, connect, type PeerCertificate, type TLSSocket } from 'node:tls';
import t, { type Test } from 'tap';
import { parseExposition } from '../scripts/harness/exposition.ts';
import { freePort } from '../scripts/harness/free-port.ts';
import { runProcess, startProcess } from '../scripts/harness/process.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import {
  type CertificateMaterial,
  certificatesIn,
  inspect,
  makeCertificate,
} from '../sidecar/kubernetes/webhook/certificate.ts';
import {
  CertificateKeeper,
  type CertificateStore,
  memoryStore,
} from '../sidecar/kubernetes/webhook/certificate-keeper.ts';

const root = join(import.meta.dirname, '..');
const main = join(root, 'sidecar/main.ts');

t.setTimeout(290_000);

interface Answer {
  readonly status: number;
  readonly body: string;
}

interface Webhook {
  readonly port: number;
  readonly health: string;
  readonly metrics: string;
  readonly stop: () => Promise<unknown>;
  readonly kill: (signal: NodeJS.Signals) => void;
  readonly ended: Promise<unknown>;
  readonly logs: () => string;
}

/** With a certificate from files, so that the test has its authority. */
async function startWebhook(t: Test, folder: string, ...more: string[]): Promise<Webhook> {
  const [port, health, metrics] = [await freePort(), await freePort(), await freePort()];
  const started = startProcess(t, process.execPath, [
    main,
    'webhook',
    `--listen=127.0.0.1:${port}`,
    `--health=127.0.0.1:${health}`,
    `--metrics=127.0.0.1:${metrics}`,
    `--tls-cert=${join(folder, 'tls.crt')}`,
    `--tls-key=${join(folder, 'tls.key')}`,
    '--image=registry.example/outrigger:1',
    '--drain-delay=0s',
    ...more,
  ]);
  const at = (page: number) => `http://127.0.0.1:${page}`;
  await waitUntil('the webhook is ready', async () => (await fetch(`${at(health)}/healthz/ready`)).ok);
  return { ...started, port, health: at(health), metrics: at(metrics), stop: () => started.stop(15_000) };
}

function makeFolder(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-webhook-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** As cert-manager and kubelet do it: whole files, renamed into place. */
function writeCertificate(folder: string, { cert, key }: CertificateMaterial): void {
  for (const [name, text] of [
    ['tls.key', key],
    ['tls.crt', cert],
  ] as const) {
    writeFileSync(join(folder, `${name}.new`), text);
    renameSync(join(folder, `${name}.new`), join(folder, name));
  }
}

const fresh = (names = ['127.0.0.1', 'localhost']) =>
  makeCertificate({ names, nowMs: Date.now(), lifetimeMs: 3_600_000 });

function post(
  { port }: { port: number },
  ca: string,
  body: string | Buffer | (() => Iterable<Buffer>),
  {
    path = '/mutate',
    method = 'POST',
    type = 'application/json',
    agent,
  }: { path?: string; method?: string; type?: string; agent?: Agent } = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = request(
      {
        host: '127.0.0.1',
        port,
        path,
        method,
        ca,
        headers: { 'Content-Type': type },
        ...(agent === undefined ? {} : { agent }),
      },
      (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => {
          text += chunk;
        });
        response.on('end', () => resolve({ status: response.statusCode ?? 0, body: text }));
      },
    );
    asked.on('error', reject);
    if (typeof body === 'function') for (const chunk of body()) asked.write(chunk);
    else asked.write(body);
    asked.end();
  });
}

/** Sends these bytes on a connection of their own, and waits until the other side has closed it. */
function sendRaw(
  { port }: { port: number },
  ca: string,
  bytes: string,
  options: ConnectionOptions = {},
): Promise<void> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port, ca, ...options });
    socket.on('error', () => {}).on('close', () => resolve());
    socket.resume().write(bytes);
  });
}

const pod = (more: object = {}) => ({
  metadata: { generateName: 'agent-' },
  spec: { containers: [{ name: 'agent', ports: [{ containerPort: 50051 }] }], ...more },
});

const reviewOf = (object: unknown, request: object = {}) =>
  JSON.stringify({
    kind: 'AdmissionReview',
    apiVersion: 'admission.k8s.io/v1',
    request: {
      uid: 'an-id',
      kind: { group: '', version: 'v1', kind: 'Pod' },
      operation: 'CREATE',
      namespace: 'agents',
      object,
      ...request,
    },
  });

t.test('the webhook answers reviews over TLS, and refuses other requests', async (t) => {
  const folder = makeFolder(t);
  const material = await fresh();
  writeCertificate(folder, material);
  const webhook = await startWebhook(t, folder);
  const ask = (body: Parameters<typeof post>[2], options = {}) => post(webhook, material.ca, body, options);

  const injected = JSON.parse((await ask(reviewOf(pod()))).body);
  t.match(injected, {
    kind: 'AdmissionReview',
    apiVersion: 'admission.k8s.io/v1',
    response: { uid: 'an-id', allowed: true, patchType: 'JSONPatch' },
  });
  const patch = JSON.parse(Buffer.from(injected.response.patch, 'base64').toString());
  t.match(
    patch.find(({ path }: { path: string }) => path === '/spec/initContainers'),
    { op: 'add', value: [{ name: 'outrigger', image: 'registry.example/outrigger:1' }] },
  );
  for (const [what, body] of [
    [
      'a pod that has it',
      reviewOf(pod({ initContainers: [{ name: 'outrigger', restartPolicy: 'Always' }] })),
    ],
    ['an update', reviewOf(pod(), { operation: 'UPDATE' })],
    ['another kind', reviewOf(pod(), { kind: { group: 'apps', kind: 'Deployment' } })],
    ['a subresource', reviewOf(pod(), { subResource: 'ephemeralcontainers' })],
    ['a pod of no known form', reviewOf({ spec: { containers: 'none' } })],
    ['nothing', reviewOf(null)],
  ] as const)
    t.strictSame(JSON.parse((await ask(body)).body).response, { uid: 'an-id', allowed: true }, what);
  const clash = JSON.parse((await ask(reviewOf(pod({ initContainers: [{ name: 'outrigger' }] })))).body);
  t.match(clash.response, {
    allowed: true,
    warnings: [/no Outrigger sidecar: a container of the pod has the name/],
  });
  t.equal(clash.response.patch, undefined);
  const unknown = {
    containers: [{ name: 'app', image: 'x', ports: [{ containerPort: 8000, hostPort: 8000 }] }],
  };
  const doubted = JSON.parse((await ask(reviewOf(pod(unknown)))).body);
  t.match(doubted.response, {
    patchType: 'JSONPatch',
    warnings: [/^Outrigger: nothing tells whether port 8000 is gRPC/],
  });
  const hidden = {
    containers: [{ name: 'app', image: 'x', envFrom: [{ secretRef: { name: 'shop-secrets' } }] }],
  };
  const bypassed = JSON.parse((await ask(reviewOf(pod(hidden)))).body);
  t.match(bypassed.response, {
    patchType: 'JSONPatch',
    warnings: [/^Outrigger: the pod declares no port/, String],
  });
  const unseen =
    /the container app has variables from the Secret shop-secrets, .* requests with it bypass the sidecar/;
  t.match(
    bypassed.response.warnings[1],
    unseen,
    'what stays past the sidecar is a warning, after the doubts',
  );
  t.ok(bypassed.response.warnings.every((warning: string) => warning.length <= 250));
  const line = (): string | undefined =>
    webhook
      .logs()
      .split('\n')
      .find((each) => each.includes('shop-secrets') && each.endsWith('}'));
  await waitUntil('the review is logged', () => line() !== undefined);
  const logged = JSON.parse(line()!);
  t.match(
    logged,
    { outcome: 'injected', because: [], left: [unseen], doubts: [/the pod declares no port/] },
    'the log has the same, in whole',
  );
  t.match(logged.left[0], /to move it, write it in env: OPENAI_API_KEY with valueFrom.secretKeyRef, and/);

  const refused = async (): Promise<Record<string, number>> => {
    const page = parseExposition(await (await fetch(`${webhook.metrics}/metrics`)).text());
    const lines = page.all('outrigger_webhook_refused_total');
    return Object.fromEntries(lines.map(({ labels, value }) => [labels['status']!, value]));
  };
  const none = { 0: 0, 400: 0, 404: 0, 405: 0, 413: 0, 415: 0, 500: 0, 503: 0 };
  t.strictSame(await refused(), none, 'each from the beginning');
  for (let i = 1; i <= 3; i++) {
    await sendRaw(webhook, material.ca, '', { maxVersion: 'TLSv1.2' });
    await waitUntil('the handshake is counted', async () => (await refused())[0]! >= i);
  }
  t.strictSame(await refused(), { ...none, 0: 3 }, 'each failed handshake once');
  await sendRaw(
    webhook,
    material.ca,
    'POST /mutate HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\nno length\r\n',
  );
  await waitUntil('the broken body is counted', async () => (await refused())[400]! >= 1);
  await sendRaw(webhook, material.ca, 'no HTTP\r\n\r\n');
  await waitUntil('the invalid HTTP is counted', async () => (await refused())[400]! >= 2);
  t.strictSame(await refused(), { ...none, 0: 3, 400: 2 }, 'each once');

  t.match(await ask('no JSON'), { status: 400 });
  t.match(await ask('{}'), { status: 400, body: /is not an AdmissionReview/ });
  t.match(await ask('[]'), { status: 400 });
  t.match(await ask(reviewOf(pod(), { uid: '' })), { status: 400, body: /uid/ });
  t.match(await ask('{}', { path: '/' }), { status: 404 });
  t.match(await ask('{}', { method: 'PUT' }), { status: 405 });
  t.match(await ask('{}', { type: 'text/yaml' }), { status: 415 });
  t.match(await ask(Buffer.alloc(9 << 20, 0x20)), { status: 413 }, 'said before');
  function* endless(): Iterable<Buffer> {
    for (let count = 0; count < 9; count++) yield Buffer.alloc(1 << 20, 0x20);
  }
  t.match(await ask(endless), { status: 413 }, 'or not');
  t.equal((await ask(reviewOf(pod()))).status, 200, 'it still serves');

  const metrics = await (await fetch(`${webhook.metrics}/metrics`)).text();
  t.match(metrics, 'outrigger_webhook_reviews_total{outcome="injected"} 4');
  t.match(metrics, 'outrigger_webhook_reviews_total{outcome="refused"} 1');
  t.match(metrics, 'outrigger_webhook_refused_total{status="413"} 2');
  t.match(metrics, /certificate_expiry_timestamp_seconds 1\d{9}/);
  t.equal(await webhook.stop(), 0);
});

t.test('the webhook survives a flood of reviews, slow ones and partial ones', async (t) => {
  const folder = makeFolder(t);
  const material = await fresh();
  writeCertificate(folder, material);
  const webhook = await startWebhook(t, folder, '--log-level=warn');
  const sockets: TLSSocket[] = [];
  t.teardown(() => sockets.forEach((socket) => void socket.destroy()));
  const begin = (length: number, body: string | Buffer): void => {
    // It neither reads nor closes, whatever it is told.
    const options = { host: '127.0.0.1', port: webhook.port, ca: material.ca, allowHalfOpen: true };
    const socket = connect(options);
    socket.on('error', () => {});
    const head = `POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${length}\r\n\r\n`;
    socket.write(head);
    socket.write(body);
    sockets.push(socket);
  };
  const burst = (count: number, body: string): Promise<number[]> =>
    Promise.all(Array.from({ length: count }, async () => (await post(webhook, material.ca, body)).status));
  for (let count = 0; count < 100; count++) begin(100, '{');
  t.ok(
    (await burst(100, reviewOf(pod()))).every((status) => status === 200),
    'others are served anyway',
  );
  const env = Array.from({ length: 2_000 }, (_, index) => ({ name: `V${index}`, value: 'x'.repeat(100) }));
  const large = reviewOf(pod({ containers: [{ name: 'agent', env }] }));
  t.ok(large.length > 200_000);
  t.ok(
    (await burst(60, large)).every((status) => status === 200),
    'and so is a burst of large pods',
  );

  for (const socket of sockets.splice(0)) socket.destroy();
  const most = Buffer.alloc((8 << 20) - 1, ' ');
  await waitUntil('the webhook refuses further reviews', async () => {
    // More of them at a time would only take the machine's time from each other.
    const open = sockets.filter((socket) => !socket.destroyed);
    sockets.length = 0;
    sockets.push(...open);
    while (sockets.length < 20) begin(8 << 20, most);
    const { status } = await post(webhook, material.ca, reviewOf(pod()));
    return status === 503;
  });
  t.ok((await fetch(`${webhook.health}/healthz/live`)).ok);
  await waitUntil(
    'it serves again, when those who never end have had their time',
    async () => (await post(webhook, material.ca, reviewOf(pod()))).status === 200,
  );
  t.equal(await webhook.stop(), 0);
});

t.test('changed files apply from the next connection on, and broken ones never', async (t) => {
  const folder = makeFolder(t);
  const [first, second] = [await fresh(), await fresh()];
  writeCertificate(folder, first);
  // The look every 15 seconds is too long for a test: a file that can't be read makes it look every two.
  const webhook = await startWebhook(t, folder);
  const shown = () =>
    new Promise<PeerCertificate>((resolve, reject) => {
      const socket = connect(
        { host: '127.0.0.1', port: webhook.port, ca: [first.ca, second.ca].join('') },
        () => {
          resolve(socket.getPeerCertificate());
          socket.destroy();
        },
      );
      socket.on('error', reject);
    });
  const before = (await shown()).fingerprint256;
  writeFileSync(join(folder, 'tls.crt'), 'broken');
  await waitUntil('the webhook logs the error', () => /is not a certificate in PEM/.test(webhook.logs()));
  t.equal((await shown()).fingerprint256, before, 'the valid certificate stays in use');
  writeCertificate(folder, second);
  await waitUntil('the new one is shown', async () => (await shown()).fingerprint256 !== before);
  t.equal(await webhook.stop(), 0);
});

t.test('an error lists all invalid flags at once', async (t) => {
  const result = await runProcess(t, process.execPath, [
    main,
    'webhook',
    '--listen=nowhere',
    '--tls-cert=x',
    '--secret=only-a-name',
    '--certificate-lifetime=1s',
    '--image=-',
    '--nonsense',
    '1',
  ]);
  t.match(result, { code: 64, output: /--nonsense/ });
  const values = await runProcess(t, process.execPath, [
    main,
    'webhook',
    '--listen=nowhere',
    '--tls-cert=x',
    '--secret=only-a-name',
    '--certificate-lifetime=1s',
    '--image=-',
  ]);
  t.equal(values.code, 64);
  for (const flag of ['listen', 'tls-cert', 'secret', 'certificate-lifetime', 'image'])
    t.match(values.output, `--${flag}`);
  const taken = await runProcess(t, process.execPath, [
    main,
    'webhook',
    '--listen=127.0.0.1:1',
    '--health=192.0.2.1:1',
    `--metrics=127.0.0.1:${await freePort()}`,
    '--drain-delay=0s',
  ]);
  t.match(taken, { code: 69, output: /--health: can not listen on 192\.0\.2\.1:1/ });
});

// --- The certificate's life --------------------------------------------------------------------------------------

const hour = 3_600_000;

function startKeeper(store: CertificateStore, clock: { ms: number }, names = ['webhook.svc']) {
  const served: CertificateMaterial[] = [];
  const published: string[] = [];
  let refuse = false;
  const keeper = new CertificateKeeper({
    names,
    lifetimeMs: 90 * hour,
    store,
    publisher: {
      publish: async (ca) => {
        if (refuse) throw new Error('forbidden');
        if (published.at(-1) !== ca) published.push(ca);
      },
    },
    now: () => clock.ms,
    make: makeCertificate,
    serve: (material) => void served.push(material),
  });
  return { keeper, served, published, refuse: (on: boolean) => void (refuse = on) };
}

t.test('a certificate is trusted before it is used, and renewed while the old one is valid', async (t) => {
  const clock = { ms: Date.now() };
  const { keeper, served, published, refuse } = startKeeper(memoryStore(), clock);
  t.match(keeper.notReadyBecause, /no certificate yet/);
  refuse(true);
  await t.rejects(keeper.tick(), /forbidden/);
  t.equal(served.length, 0, 'nobody would trust it');
  refuse(false);
  await keeper.tick();
  t.equal(served.length, 1);
  t.equal(keeper.notReadyBecause, undefined);
  t.match(inspect(served[0]!, ['webhook.svc']), { notAfterMs: Number });

  clock.ms += 59 * hour;
  await keeper.tick();
  t.equal(served.length, 1, 'a third is not left yet');
  clock.ms += 2 * hour;
  await keeper.tick();
  t.equal(published.length, 2);
  t.equal(certificatesIn(published[1]!).length, 2, 'the new authority and the old one');
  t.equal(served.length, 1, 'API servers have to hear of it first');
  clock.ms += 31_000;
  await keeper.tick();
  t.equal(served.length, 2);
  t.not(served[1]!.cert, served[0]!.cert);

  clock.ms += 31 * hour;
  await keeper.tick();
  clock.ms += 61 * hour;
  refuse(true);
  await t.rejects(keeper.tick(), /forbidden/);
  t.equal(keeper.notReadyBecause, 'the certificate has expired');
  refuse(false);
  await keeper.tick();
  t.equal(keeper.notReadyBecause, undefined, 'at once: there is nothing good to go on with');
});

t.test(
  'a lost Secret costs no review: the served certificate stays trusted until it is replaced',
  async (t) => {
    const clock = { ms: Date.now() };
    let stored: CertificateMaterial | undefined;
    const store: CertificateStore = {
      read: async () => ({ material: stored, version: '' }),
      write: async (material) => {
        stored = material;
        return true;
      },
    };
    const { keeper, served, published } = startKeeper(store, clock);
    await keeper.tick();
    for (const lost of [undefined, { ca: 'x', cert: 'x', key: 'x' }]) {
      const old = served.at(-1)!;
      stored = lost;
      clock.ms += 15_000;
      await keeper.tick();
      t.equal(served.at(-1), old, 'API servers have to hear of the new one first');
      const trusted = certificatesIn(published.at(-1)!);
      t.equal(trusted.filter((pem) => old.ca.startsWith(pem)).length, 1, 'they trust the old authority');
      t.not(trusted[0], certificatesIn(old.ca)[0], 'beside the new one');
      clock.ms += 31_000;
      await keeper.tick();
      t.not(served.at(-1)!.cert, old.cert);
    }
  },
);

t.test('replicas share one certificate, and replace a broken one', async (t) => {
  const clock = { ms: Date.now() };
  let stored: CertificateMaterial | undefined;
  let version = 0;
  const shared: CertificateStore = {
    read: async () => ({ material: stored, version: String(version) }),
    write: async (material, expected) => {
      if (expected !== String(version)) return false;
      stored = material;
      version++;
      return true;
    },
  };
  const replicas = [1, 2, 3].map(() => startKeeper(shared, clock));
  await Promise.all(replicas.map(({ keeper }) => keeper.tick()));
  t.equal(version, 1, 'one has written');
  for (const { served } of replicas) t.equal(served[0]?.cert, stored?.cert);
  const good = stored!;
  for (const [what, broken] of [
    ['no certificate', { ...good, cert: 'x' }],
    ['another key', { ...good, key: (await fresh()).key }],
    ['another authority', { ...good, ca: (await fresh()).ca }],
    ['another name', await fresh(['other.svc'])],
  ] as const) {
    stored = broken;
    const { keeper, served } = startKeeper(shared, clock);
    await keeper.tick();
    t.equal(served.length, 1, what);
    t.notMatch(inspect(stored as CertificateMaterial, ['webhook.svc']), { unusable: String }, what);
  }
});
