// Files that are none, headers that take others away or claim to be somebody, and reviews that are all brackets.
import { execFileSync } from 'node:child_process';
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { join } from 'node:path';
import { Metadata } from '@grpc/grpc-js';
import t from 'tap';
import { TestAuthority } from '../../scripts/harness/certificates.ts';
import { freePort } from '../../scripts/harness/free-port.ts';
import { errorCode, grpcRequest, H2Peer } from '../../scripts/harness/h2-peer.ts';
import { answerWhole } from '../../scripts/harness/llm/provider.ts';
import { startProcess } from '../../scripts/harness/process.ts';
import { RawClient } from '../../scripts/harness/raw-grpc.ts';
import { startSidecar } from '../../scripts/harness/sidecar.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { makeCertificate } from '../../sidecar/kubernetes/webhook/certificate.ts';
import { chat, send } from '../llm/send.ts';
import { providerFor } from '../llm/set-up.ts';
import { startUpstream } from '../support/upstream.ts';

const PEAK_BYTES = 400_000_000;
const root = join(import.meta.dirname, '..', '..');
const main = join(root, 'sidecar', 'main.ts');

const peakBytes = (pid: number): number =>
  1024 * Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]);

t.test('a path that is a FIFO, a device or a folder blocks no process', async (t) => {
  const folder = t.testdir({ folder: {} });
  const fifo = join(folder, 'fifo');
  execFileSync('mkfifo', [fifo]);
  for (const path of [fifo, join(folder, 'folder'), '/dev/zero']) {
    const started = startProcess(t, process.execPath, [main, 'run', '--config', path], { cwd: root });
    t.equal(await started.ended, 64, path);
    t.match(started.logs(), /is not a regular file/);
  }
  const authority = await TestAuthority.make();
  const { cert, key } = await authority.issue({ names: ['localhost'] });
  const files = { cert: join(folder, 'cert.pem'), key: join(folder, 'key.pem') };
  writeFileSync(files.cert, cert);
  writeFileSync(files.key, key);
  const sidecar = await startSidecar(t, { inbound: { tls: files } }, { until: 'live' });
  const live = async () => (await fetch(`http://127.0.0.1:${sidecar.healthPort}/healthz/live`)).status;
  renameSync(files.key, `${files.key}.old`);
  execFileSync('mkfifo', [files.key]);
  await waitUntil('the key is refused', () =>
    sidecar.logs().includes('the new key file is not a regular file'),
  );
  t.equal(await live(), 200);
  rmSync(sidecar.configFile);
  execFileSync('mkfifo', [sidecar.configFile]);
  const reload = await fetch(`http://127.0.0.1:${sidecar.adminPort}/reload`, { method: 'POST' });
  t.equal(reload.status, 422);
  t.match(await reload.text(), /is not a regular file/);
  await waitUntil(
    'the watch has seen it, too',
    () => sidecar.logs().split('is not a regular file').length > 3,
  );
  t.equal(await live(), 200);
});

const provider = await providerFor(t);

t.test("an agent's `connection` header removes none of our headers", async (t) => {
  const url = provider.script('named', answerWhole);
  const sidecar = await startSidecar(
    t,
    { llm: { upstreams: [{ name: 'one', url, api_key_env: 'TEST_KEY' }] } },
    { until: 'live', env: { TEST_KEY: 'sk-of-the-upstream' } },
  );
  const ask = (headers: Record<string, string>): Promise<number> =>
    new Promise((resolve, reject) => {
      const body = chat();
      const options = {
        host: '127.0.0.1',
        port: sidecar.llmPort,
        path: '/v1/chat/completions',
        method: 'POST',
        headers,
      };
      const request = httpRequest(options, (response) => {
        response.resume();
        response.on('end', () => resolve(response.statusCode ?? 0));
      });
      request.on('error', reject);
      request.end(body);
    });
  for (const named of [
    'authorization',
    'close, Authorization , x-api-key',
    'accept-encoding, content-length, host, content-type',
  ]) {
    t.equal(await ask({ connection: named, 'x-kept': '1', 'content-type': 'application/json' }), 200, named);
    const { headers, body } = provider.requests('named').at(-1)!;
    t.match(
      headers,
      { authorization: 'Bearer sk-of-the-upstream', 'accept-encoding': 'identity', 'x-kept': '1' },
      named,
    );
    t.equal(headers['content-length'], String(body.length));
  }
  t.equal(await ask({ connection: 'x-mine', 'x-mine': '1' }), 200);
  t.equal(provider.requests('named').at(-1)!.headers['x-mine'], undefined, 'but its own, as it says');
  t.equal(
    (await send(`http://127.0.0.1:${sidecar.llmPort}/v1`, '/chat/completions', chat()).answer).status,
    200,
  );
});

t.test('certificate headers of a caller reach the app only if the configuration allows it', async (t) => {
  const upstream = await startUpstream(t);
  const claims = {
    'x-forwarded-client-cert': 'By=x;URI=spiffe://x/admin',
    'client-cert': ':AAAA:',
    'client-cert-chain': ':AAAA:',
  };
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(claims)) metadata.set(name, value);
  metadata.set('x-forwarded-for', '10.0.0.1');
  for (const trusted of [false, true]) {
    const sidecar = await startSidecar(
      t,
      { inbound: { app: upstream.address, ...(trusted ? { forward_client_cert: true } : {}) } },
      { until: 'live' },
    );
    const client = new RawClient(t, sidecar.inboundPort);
    // Heads that come again are remembered.
    for (let turn = 0; turn < 3; turn++) {
      t.equal((await client.unary(Buffer.from('x'), { metadata })).code, 0);
      const { headers } = upstream.calls.at(-1)!;
      for (const [name, value] of Object.entries(claims))
        t.equal(
          headers[name],
          trusted ? value : undefined,
          `${name}, ${trusted ? 'trusted' : 'not trusted'}`,
        );
      t.equal(headers['x-forwarded-for'], '10.0.0.1', 'which proves nothing');
    }
  }
});

t.test(
  'control characters in the values of a request are refused, and tabs and other bytes pass',
  async (t) => {
    const upstream = await startUpstream(t);
    const sidecar = await startSidecar(t, { inbound: { app: upstream.address } }, { until: 'live' });
    const peer = (await H2Peer.connect(t, sidecar.inboundPort)).behave();
    let id = -1;
    for (let code = 0; code < 0x100; code++) {
      id += 2;
      const stream = id;
      await peer.headers(stream, grpcRequest('/x/Y', ['x-a', `a${String.fromCharCode(code)}b`]), false);
      await peer.data(stream, Buffer.from([0, 0, 0, 0, 0]), true);
      await peer.until('it has ended', () => peer.resets.has(stream) || peer.ended.has(stream));
      const isControl = (code < 0x20 && code !== 0x09) || code === 0x7f;
      t.equal(
        peer.resets.get(stream),
        isControl ? errorCode.protocolError : undefined,
        `0x${code.toString(16)}`,
      );
    }
  },
);

t.test('a review of brackets takes little memory', async (t) => {
  const folder = t.testdir({});
  const { ca, cert, key } = await makeCertificate({
    names: ['127.0.0.1'],
    nowMs: Date.now(),
    lifetimeMs: 3_600_000,
  });
  writeFileSync(join(folder, 'tls.crt'), cert);
  writeFileSync(join(folder, 'tls.key'), key);
  const [port, health, metrics] = [await freePort(), await freePort(), await freePort()];
  const webhook = startProcess(t, process.execPath, [
    main,
    'webhook',
    `--listen=127.0.0.1:${port}`,
    `--health=127.0.0.1:${health}`,
    `--metrics=127.0.0.1:${metrics}`,
    `--tls-cert=${join(folder, 'tls.crt')}`,
    `--tls-key=${join(folder, 'tls.key')}`,
    '--image=registry.example/outrigger:1',
  ]);
  await waitUntil('it is ready', async () => (await fetch(`http://127.0.0.1:${health}/healthz/ready`)).ok);
  const post = (body: string): Promise<number> =>
    new Promise((resolve) => {
      const options = {
        host: '127.0.0.1',
        port,
        path: '/mutate',
        method: 'POST',
        ca,
        agent: false,
        headers: { 'content-type': 'application/json' },
      };
      const request = httpsRequest(options, (response) => {
        response.resume();
        response.on('end', () => resolve(response.statusCode ?? 0));
      });
      request.on('error', () => resolve(-1));
      request.end(body);
    });
  const review = (object: string): string =>
    `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"1","kind":{"group":"","version":"v1","kind":"Pod"},"operation":"CREATE","namespace":"n","object":${object}}}`;
  const filled = (piece: string): string =>
    `[${`${piece},`.repeat(Math.floor(7_900_000 / (piece.length + 1)))}0]`;
  const pod = (more: string): string =>
    `{"metadata":{"name":"a","annotations":{"x":"${more}"}},"spec":{"containers":[{"name":"a","ports":[{"containerPort":50051}]}]}}`;
  for (const piece of ['{}', '[]', '0', '""', '{"a":{}}', '[[]]', '"\\\\"'])
    for (let turn = 0; turn < 3; turn++)
      t.equal(await post(review(`{"spec":{"containers":[]},"x":${filled(piece)}}`)), 413, piece);
  const all = await Promise.all(Array.from({ length: 8 }, () => post(review(filled('{}')))));
  t.ok(
    all.every((status) => status === 413 || status === 503),
    all.join(),
  );
  t.equal(await post(review(pod('x,{[:'.repeat(600_000)))), 200, 'a large text is one value');
  const most = `{"metadata":{},"spec":{"containers":[]},"x":[${'{"a":1},'.repeat(130_000)}0]}`;
  for (let turn = 0; turn < 6; turn++) t.equal(await post(review(most)), 200, 'as many values as it takes');
  const peak = peakBytes(webhook.pid);
  t.ok(peak < PEAK_BYTES, `${peak} bytes at most`);
  t.comment(`peak ${peak}`);
});
