// Two sidecars that prove to each other who they are, and everybody who is refused with the reason.

import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { connect as connectPlain, createServer as createPlainServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { type ConnectionOptions, connect as connectTls, createServer as createTlsServer } from 'node:tls';
import * as grpc from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import {
  ExtendedKeyUsage,
  type Issued,
  SecretVolume,
  selfSigned,
  TestAuthority,
} from '../scripts/harness/certificates.ts';
import { type DataPlane, policiesOff, startDataPlane } from '../scripts/harness/data-plane.ts';
import { canConnect } from '../scripts/harness/net.ts';
import { runProcess } from '../scripts/harness/process.ts';
import { RawClient, rawPaths, startRawServer } from '../scripts/harness/raw-grpc.ts';
import { startSidecar } from '../scripts/harness/sidecar.ts';
import { requireTool, skipWithout } from '../scripts/harness/tool.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { HANDSHAKE_TIMEOUT_MS, MAX_HANDSHAKES } from '../sidecar/listeners/tls-acceptor.ts';
import { untilLogged } from './support/until-logged.ts';
import { answerWith, type SeenCall, startUpstream } from './support/upstream.ts';

type Section = Record<string, unknown>;

t.setTimeout(290_000);

const HOUR_MS = 3_600_000;
const SERVER = 'spiffe://example.org/ns/agents/sa/writing';
const CALLER = 'spiffe://example.org/ns/agents/sa/research';
const authority = await TestAuthority.make('ours');
const stranger = await TestAuthority.make('strange');
const serverIssued = await authority.issue({ names: ['localhost', '127.0.0.1', SERVER] });
const callerIssued = await authority.issue({ names: [CALLER, 'research.agents.svc'] });

const volume = (t: Test, issued: Issued, ca = authority.ca): SecretVolume =>
  new SecretVolume(t, { ...issued, ca });

interface Watched {
  readonly plane: DataPlane;
  /** What connections were closed or not made for. */
  readonly said: string[];
}

/** A sidecar with TLS towards its callers. */
async function startInbound(
  t: Test,
  {
    issued = serverIssued,
    tls = {},
    app,
    inbound = {},
  }: { issued?: Issued; tls?: Section; app: string; inbound?: Section },
): Promise<Watched & { files: SecretVolume }> {
  const files = volume(t, issued);
  const said: string[] = [];
  const plane = await startDataPlane(
    t,
    {
      inbound: { app, ...inbound, tls: { cert: files.cert, key: files.key, client_ca: files.ca, ...tls } },
    },
    { onConnectionError: (_listener, error) => said.push(`${error.reason}: ${error.message}`) },
  );
  return { plane, said, files };
}

function outboundContent(port: number, tls: Section | undefined, settings: Section = {}): Section {
  const endpoints = [`127.0.0.1:${port}`];
  return {
    outbound: {
      routes: [{ match: { path_prefix: '/' }, cluster: 'upstream' }],
      clusters: {
        upstream: { endpoints, ...policiesOff, ...settings, ...(tls === undefined ? {} : { tls }) },
      },
    },
  };
}

/** A sidecar that calls the one on `port` with TLS. */
async function startOutbound(
  t: Test,
  port: number,
  {
    issued = callerIssued as Issued | 'none',
    ca = authority.ca,
    tls = {},
    settings = {},
  }: { issued?: Issued | 'none'; ca?: string; tls?: Section; settings?: Section } = {},
): Promise<Watched & { files: SecretVolume }> {
  const files = volume(t, issued === 'none' ? callerIssued : issued, ca);
  const said: string[] = [];
  const own = issued === 'none' ? {} : { cert: files.cert, key: files.key };
  const plane = await startDataPlane(t, outboundContent(port, { ca: files.ca, ...own, ...tls }, settings), {
    onConnectFailed: ({ name }, _endpoint, message) => {
      if (name === 'upstream') said.push(message);
    },
  });
  return { plane, said, files };
}

const upstreamOf = ({ sidecar }: DataPlane) => sidecar.outbound.clusters.clusters.get('upstream')!;
const rejected = ({ sidecar }: DataPlane): Record<string, number> =>
  Object.fromEntries(sidecar.inbound.stats.rejected);

t.test("two sidecars use TLS 1.3 and HTTP/2, and verify each other's names", async (t) => {
  const app = await startUpstream(t);
  const { plane: beside } = await startInbound(t, {
    app: app.address,
    tls: { allow_identities: ['spiffe://example.org/ns/*/sa/research'] },
  });
  const { plane: caller } = await startOutbound(t, beside.inboundPort, {
    tls: { allow_identities: [SERVER] },
  });
  const client = new RawClient(t, caller.outboundPort);
  const found = await client.unary(Buffer.from('hello'));
  t.equal(found.code, grpc.status.OK, found.details);
  t.equal(String(found.response), 'upstream');
  t.equal(app.calls[0]?.headers[':scheme'], 'http', 'the app is called in plain text and is told so');
  const [connection] = upstreamOf(caller).endpoints[0]!.pool.connections;
  t.equal(connection?.scheme, 'https');
  const socket = connection!.socket as unknown as import('node:tls').TLSSocket;
  t.equal(socket.getProtocol(), 'TLSv1.3');
  t.equal(socket.alpnProtocol, 'h2');
  t.equal(socket.authorized, true);
  const stats = [...beside.sidecar.credentials()].map(({ where, problem }) => [where, problem]);
  t.strictSame(stats, [['inbound.tls', '']]);
});

t.test('calls and health checks over TLS have the scheme https', async (t) => {
  const seen: string[] = [];
  const { cert, key } = serverIssued;
  const { createSecureServer } = await import('node:http2');
  const server = createSecureServer({ cert, key, minVersion: 'TLSv1.3' });
  server.on('stream', (stream, headers) => {
    seen.push(`${headers[':path']} ${headers[':scheme']}`);
    stream.respond(
      { ':status': 200, 'content-type': 'application/grpc', 'grpc-status': '0' },
      { endStream: true },
    );
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  const { port } = server.address() as import('node:net').AddressInfo;
  const { plane } = await startOutbound(t, port, { settings: { health_check: { interval: '100ms' } } });
  const client = new RawClient(t, plane.outboundPort);
  await client.unary(Buffer.alloc(0));
  await client.unary(Buffer.alloc(0));
  await waitUntil('both came', () => seen.length >= 3);
  t.ok(seen.includes('/grpc.health.v1.Health/Check https'), seen.join());
  t.ok(seen.includes(`${rawPaths.unary} https`), seen.join());
  plane.sidecar.close();
});

t.test('the name of an endpoint is compared, and sent as SNI, without case and final dot', async (t) => {
  const { createSecureServer } = await import('node:http2');
  const { createSecureContext } = await import('node:tls');
  const indicated: string[] = [];
  const { cert, key } = await authority.issue({ names: ['writing.agents.svc'] });
  const server = createSecureServer({
    SNICallback: (name, answer) => {
      indicated.push(name);
      // As servers with a certificate for each name do.
      answer(null, name === 'writing.agents.svc' ? createSecureContext({ cert, key }) : undefined);
    },
  });
  server.on('stream', (stream) => {
    stream.respond(
      { ':status': 200, 'content-type': 'application/grpc', 'grpc-status': '0' },
      { endStream: true },
    );
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  const { port } = server.address() as import('node:net').AddressInfo;
  const { plane } = await startOutbound(t, port, { tls: { server_name: 'Writing.Agents.svc.' } });
  const found = await new RawClient(t, plane.outboundPort).unary(Buffer.alloc(0));
  t.not(found.trailers.get('outrigger-reason')[0], 'connect_failed', found.details);
  t.strictSame(indicated, ['writing.agents.svc']);
  plane.sidecar.close();
});

t.test('an endpoint with a wrong identity gets no call', async (t) => {
  const app = await startUpstream(t);
  const expired = { notBeforeMs: Date.now() - 2 * HOUR_MS, notAfterMs: Date.now() - HOUR_MS };
  const names = ['localhost', '127.0.0.1', SERVER];
  const cases: Record<string, { issued: Issued; tls?: Section; reason: string; message: RegExp }> = {
    expired: {
      issued: await authority.issue({ names, ...expired }),
      reason: 'tls_expired',
      message: /tls_expired: its certificate, or one above it, has expired; renew it/,
    },
    'not yet valid': {
      issued: await authority.issue({
        names,
        notBeforeMs: Date.now() + HOUR_MS,
        notAfterMs: Date.now() + 2 * HOUR_MS,
      }),
      reason: 'tls_not_yet_valid',
      message: /not valid yet; check the clocks/,
    },
    'wrong name': {
      issued: await authority.issue({ names: ['other.example'] }),
      reason: 'tls_wrong_name',
      message: /its certificate is for another name.*other\.example/,
    },
    'wrong server_name': {
      issued: serverIssued,
      tls: { server_name: 'writing.example' },
      reason: 'tls_wrong_name',
      message: /writing\.example/,
    },
    'wrong identity': {
      issued: serverIssued,
      tls: { allow_identities: ['spiffe://example.org/ns/agents/sa/other', '*.example.org'] },
      reason: 'tls_identity',
      message: /the endpoint is ".*sa\/writing", which is not among tls.allow_identities/,
    },
    'self-signed': {
      issued: await selfSigned(names),
      reason: 'tls_self_signed',
      message: /its certificate is self-signed/,
    },
    'unknown authority': {
      issued: await stranger.issue({ names }),
      reason: 'tls_unknown_ca',
      message: /by an authority that is not trusted here/,
    },
    'for clients only': {
      issued: await authority.issue({ names, usages: [ExtendedKeyUsage.clientAuth] }),
      reason: 'tls_bad_certificate',
      message: /is not for this use/,
    },
  };
  for (const [name, { issued, tls = {}, reason, message }] of Object.entries(cases)) {
    const { plane: beside } = await startInbound(t, { app: app.address, issued });
    const { plane, said } = await startOutbound(t, beside.inboundPort, { tls });
    const found = await new RawClient(t, plane.outboundPort).unary(Buffer.from('x'));
    t.equal(found.code, grpc.status.UNAVAILABLE, name);
    t.match(said[0], message, name);
    const cluster = upstreamOf(plane);
    t.match(cluster.endpoints[0]!.unusableBecause, message, `${name}: /clusters says why`);
    t.ok(
      cluster.connectFailures.get(reason)! >= 1,
      `${name} is counted: ${[...cluster.connectFailures.keys()]}`,
    );
  }
  t.equal(app.calls.length, 0, 'no call has come through');
});

t.test('a caller with a wrong identity gets an error with the reason', async (t) => {
  const app = await startUpstream(t);
  const { plane: beside, said } = await startInbound(t, {
    app: app.address,
    tls: { allow_identities: ['spiffe://example.org/ns/agents/sa/*'] },
  });
  const expired = { notBeforeMs: Date.now() - 2 * HOUR_MS, notAfterMs: Date.now() - HOUR_MS };
  const cases: Record<string, { issued: Issued | 'none'; reason: string; message: RegExp }> = {
    expired: {
      issued: await authority.issue({ names: [CALLER], ...expired }),
      reason: 'tls_expired',
      message: /caller "spiffe:.*research": its certificate, or one above it, has expired/,
    },
    'self-signed': {
      issued: await selfSigned([CALLER]),
      reason: 'tls_self_signed',
      message: /is self-signed/,
    },
    'unknown authority': {
      issued: await stranger.issue({ names: [CALLER] }),
      reason: 'tls_unknown_ca',
      message: /by an authority that is not trusted here/,
    },
    'another identity': {
      issued: await authority.issue({ names: ['spiffe://example.org/ns/agents/sa/a/b', 'a.example'] }),
      reason: 'tls_identity',
      message: /caller "spiffe:.*sa\/a\/b, a.example" is not among inbound.tls.allow_identities/,
    },
    'no identity': {
      issued: await authority.issue(),
      reason: 'tls_identity',
      message: /caller "CN=workload" is not among/,
    },
    'no certificate': {
      issued: 'none',
      reason: 'tls_no_certificate',
      message: /the caller shows no certificate; set tls.cert and tls.key there/,
    },
  };
  for (const [name, { issued, reason, message }] of Object.entries(cases)) {
    const before = rejected(beside)[reason] ?? 0;
    const { plane, said: callerSaid } = await startOutbound(t, beside.inboundPort, { issued });
    const found = await new RawClient(t, plane.outboundPort).unary(Buffer.from('x'));
    t.equal(found.code, grpc.status.UNAVAILABLE, name);
    t.match(callerSaid[0], message, `${name}: the caller's side knows`);
    t.match(found.details, message, `${name}: so does who called`);
    t.ok(
      said.some((line) => line.startsWith(reason) && message.test(line)),
      `${name}: the log says it`,
    );
    t.ok((rejected(beside)[reason] ?? 0) > before, `${name} is counted as ${reason}`);
    const [endpoint] = upstreamOf(plane).endpoints;
    t.match(endpoint!.unusableBecause, message, `${name}: /clusters says why`);
    t.equal(endpoint!.pool.state, 'backingOff', `${name}: it is not asked again at once`);
    t.ok(upstreamOf(plane).connectFailures.get(reason)! >= 1, `${name} is counted there too`);
    plane.sidecar.close();
  }
  t.equal(app.calls.length, 0, 'no call has come through');
});

t.test('grpc-js clients need a certificate, and get the reason for a refusal', async (t) => {
  const app = await startRawServer(t);
  const { plane } = await startInbound(t, { app: app.address });
  const call = (credentials: grpc.ChannelCredentials) => {
    const client = new grpc.Client(`localhost:${plane.inboundPort}`, credentials, {
      'grpc.enable_retries': 0,
    });
    t.teardown(() => client.close());
    return new Promise<{ error: grpc.ServiceError | null; answer: Buffer | undefined }>((resolve) => {
      const identity = (bytes: Buffer): Buffer => bytes;
      const deadline = Date.now() + 20_000;
      client.makeUnaryRequest(
        rawPaths.unary,
        identity,
        identity,
        Buffer.from('js'),
        { deadline },
        (error, answer) => resolve({ error, answer }),
      );
    });
  };
  const ca = Buffer.from(authority.ca);
  const good = await call(
    grpc.credentials.createSsl(ca, Buffer.from(callerIssued.key), Buffer.from(callerIssued.cert)),
  );
  t.equal(good.error, null);
  t.equal(String(good.answer), 'js');
  const without = await call(grpc.credentials.createSsl(ca));
  t.equal(without.error?.code, grpc.status.UNAVAILABLE);
  t.ok(rejected(plane)['tls_no_certificate']! >= 1);
  const plain = await call(grpc.credentials.createInsecure());
  t.equal(plain.error?.code, grpc.status.UNAVAILABLE);
  t.ok(rejected(plane)['tls_plain_text']! >= 1);
});

t.test('grpcio clients need a certificate', { skip: skipWithout('python') }, async (t) => {
  const app = await startRawServer(t);
  const { plane, files } = await startInbound(t, { app: app.address });
  const mine = volume(t, callerIssued);
  const run = async (...own: string[]): Promise<{ code: string; details: string; answer: string }> => {
    const script = join(import.meta.dirname, 'support', 'python', 'tls_client.py');
    const args = [script, `${plane.inboundPort}`, files.ca, ...own];
    const { output } = await runProcess(t, requireTool('python'), args);
    return JSON.parse(output.split('\n').find((line) => line.startsWith('{'))!);
  };
  t.match(await run(mine.cert, mine.key), { code: 'OK', answer: 'from python' });
  t.match(await run(), { code: 'UNAVAILABLE' });
  t.ok(rejected(plane)['tls_no_certificate']! >= 1);
});

interface Ended {
  readonly alpn: string | false | null;
  readonly code: string;
  readonly bytes: Buffer;
}

/** Shakes hands as asked, and gives how it ended. */
function shakeHands(port: number, options: ConnectionOptions): Promise<Ended> {
  return new Promise((resolve) => {
    const parts: Buffer[] = [];
    let alpn: string | false | null = null;
    let code = '';
    const socket = connectTls(
      { port, host: '127.0.0.1', ca: authority.ca, servername: 'localhost', ...options },
      () => {
        alpn = socket.alpnProtocol;
      },
    );
    socket.on('data', (bytes: Buffer) => parts.push(bytes));
    socket.on('error', (error: NodeJS.ErrnoException) => {
      code = error.code ?? '';
    });
    socket.on('close', () => resolve({ alpn, code, bytes: Buffer.concat(parts) }));
  });
}

t.test('TLS 1.2, other protocols and none, and plain text are refused', async (t) => {
  const app = await startUpstream(t);
  const { plane } = await startInbound(t, { app: app.address });
  const port = plane.inboundPort;
  const own = callerIssued;
  const old = await shakeHands(port, {
    ...own,
    ALPNProtocols: ['h2'],
    maxVersion: 'TLSv1.2',
    minVersion: 'TLSv1.2',
  });
  t.equal(old.code, 'ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION');
  const other = await shakeHands(port, { ...own, ALPNProtocols: ['http/1.1'] });
  t.equal(other.code, 'ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL');
  const none = await shakeHands(port, own);
  t.match(none.bytes.toString('latin1'), /tls_no_alpn: the caller does not offer HTTP\/2/);
  await waitUntil('all are counted', () => (rejected(plane)['tls_no_alpn'] ?? 0) >= 2);
  t.equal(rejected(plane)['tls_version'], 1);
  const words = await new Promise<string>((resolve) => {
    const socket = connectPlain(port, '127.0.0.1', () => socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'));
    let text = '';
    socket.on('data', (bytes) => (text += bytes.toString('latin1')));
    socket.on('close', () => resolve(text));
  });
  t.match(words, /tls_plain_text: this port accepts TLS only; set tls on the calling side/);
  t.equal(rejected(plane)['tls_plain_text'], 1);
  t.equal(plane.sidecar.inbound.listener.connectionCount, 0);
});

t.test(
  'plain text to TLS, TLS to plain text, and servers with old TLS or without HTTP/2 fail clearly',
  async (t) => {
    const app = await startUpstream(t);
    const { plane: beside } = await startInbound(t, { app: app.address });
    const said: string[] = [];
    const onConnectFailed = ({ name }: { name: string }, _endpoint: unknown, message: string): void => {
      if (name === 'upstream') said.push(message);
    };
    const plain = await startDataPlane(t, outboundContent(beside.inboundPort, undefined), {
      onConnectFailed,
    });
    const found = await new RawClient(t, plain.outboundPort).unary(Buffer.from('x'));
    t.equal(found.code, grpc.status.UNAVAILABLE);
    t.match(said[0], /tls_plain_text: this port accepts TLS only/);

    const text = await startOutbound(t, app.port);
    await new RawClient(t, text.plane.outboundPort).unary(Buffer.from('x'));
    t.match(text.said[0], /tls_(plain_text|cut): /, 'the other side does not speak TLS');

    const { cert, key } = serverIssued;
    for (const [name, options, message] of [
      [
        'TLS 1.2',
        { maxVersion: 'TLSv1.2', ALPNProtocols: ['h2'] },
        /tls_version: one side does not speak TLS 1\.3/,
      ],
      ['no ALPN', {}, /tls_no_alpn: the endpoint does not offer HTTP\/2/],
      ['HTTP/1 alone', { ALPNProtocols: ['http/1.1'] }, /tls_no_alpn: /],
    ] as const) {
      const server = createTlsServer({ cert, key, ...options });
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      t.teardown(() => server.close());
      const { plane, said } = await startOutbound(
        t,
        (server.address() as import('node:net').AddressInfo).port,
      );
      await new RawClient(t, plane.outboundPort).unary(Buffer.from('x'));
      t.match(said[0], message, name);
      plane.sidecar.close();
    }

    const plainSaid: string[] = [];
    const toPlain = await startDataPlane(
      t,
      { inbound: { app: app.address } },
      { onConnectionError: (_listener, error) => plainSaid.push(`${error.reason}: ${error.message}`) },
    );
    const { plane: lost, said: lostSaid } = await startOutbound(t, toPlain.inboundPort);
    await new RawClient(t, lost.outboundPort).unary(Buffer.from('x'));
    t.match(lostSaid[0], /tls_plain_text: the other side does not speak TLS/);
    t.match(plainSaid[0], /tls_unexpected: a TLS handshake on a plain text port; set inbound.tls here/);
    t.ok(rejected(toPlain)['tls_unexpected']! >= 1);
  },
);

t.test('during a migration to TLS one port accepts both', async (t) => {
  const app = await startUpstream(t);
  const { plane: beside } = await startInbound(t, { app: app.address, tls: { required: false } });
  const plain = await startDataPlane(t, outboundContent(beside.inboundPort, undefined));
  const { plane: secure } = await startOutbound(t, beside.inboundPort);
  for (const { outboundPort } of [plain, secure]) {
    const found = await new RawClient(t, outboundPort).unary(Buffer.from('x'));
    t.equal(found.code, grpc.status.OK, found.details);
  }
  const wrong = await startOutbound(t, beside.inboundPort, {
    issued: await stranger.issue({ names: [CALLER] }),
  });
  const found = await new RawClient(t, wrong.plane.outboundPort).unary(Buffer.from('x'));
  t.match(found.details, /tls_unknown_ca/, 'who speaks TLS must be right');
});

t.test(
  'a reload that requires TLS, or changes allowed identities, closes connections that it forbids',
  async (t) => {
    const app = await startUpstream(t);
    const { plane: beside, files } = await startInbound(t, { app: app.address, tls: { required: false } });
    const plain = await startDataPlane(t, outboundContent(beside.inboundPort, undefined));
    const { plane: secure } = await startOutbound(t, beside.inboundPort);
    const callPlain = new RawClient(t, plain.outboundPort);
    const callSecure = new RawClient(t, secure.outboundPort);
    t.equal((await callPlain.unary(Buffer.from('x'))).code, grpc.status.OK);
    t.equal((await callSecure.unary(Buffer.from('x'))).code, grpc.status.OK);
    t.equal(beside.sidecar.inbound.listener.connectionCount, 2);
    const tls = { cert: files.cert, key: files.key, client_ca: files.ca };
    await beside.apply({ inbound: { app: app.address, tls } });
    await waitUntil('plain text has gone', () => beside.sidecar.inbound.listener.connectionCount === 1);
    t.equal((await callSecure.unary(Buffer.from('x'))).code, grpc.status.OK, 'TLS stays');
    t.match((await callPlain.unary(Buffer.from('x'))).details, /tls_plain_text/);
    await beside.apply({
      inbound: { app: app.address, tls: { ...tls, allow_identities: ['nobody.example'] } },
    });
    await waitUntil('nobody is left', () => beside.sidecar.inbound.listener.connectionCount === 0);
    t.match((await callSecure.unary(Buffer.from('x'))).details, /tls_identity/);
  },
);

t.test('a reload of the TLS of endpoints opens new connections, and loses no call', async (t) => {
  const held: SeenCall[] = [];
  const app = await startUpstream(t, { onCall: (call) => held.push(call) });
  const { plane: beside } = await startInbound(t, { app: app.address, tls: { required: false } });
  const { plane: caller, files } = await startOutbound(t, beside.inboundPort, {
    tls: { allow_identities: [SERVER] },
  });
  const client = new RawClient(t, caller.outboundPort);
  const first = client.unary(Buffer.from('x'));
  await waitUntil('the call is there', () => held.length === 1);
  await caller.apply(outboundContent(beside.inboundPort, undefined));
  const second = client.unary(Buffer.from('x'));
  await waitUntil('another one, in plain text', () => held.length === 2);
  const tls = { ca: files.ca, cert: files.cert, key: files.key, allow_identities: ['other.example'] };
  await caller.apply(outboundContent(beside.inboundPort, tls));
  t.match((await client.unary(Buffer.from('x'))).details, /tls_identity/, 'nobody there is allowed now');
  for (const { stream } of held) answerWith(stream, 'late');
  t.strictSame([(await first).code, (await second).code], [0, 0], 'calls of before were answered');
  await caller.apply(outboundContent(beside.inboundPort, { ...tls, allow_identities: [SERVER] }));
  const third = client.unary(Buffer.from('x'));
  await waitUntil('allowed again', () => held.length === 3);
  answerWith(held[2]!.stream, 'again');
  t.equal((await third).code, 0);
});

t.test('a replacement of certificates under load loses no call', async (t) => {
  const app = await startUpstream(t);
  const { plane: beside, files: besideFiles } = await startInbound(t, {
    app: app.address,
    // Connections come and go all the time, so that many shake hands while the files change.
    inbound: { keepalive: { max_connection_age: '200ms' } },
  });
  const replaced: string[] = [];
  const invalid: string[] = [];
  const callerFiles = volume(t, callerIssued);
  const tls = { ca: callerFiles.ca, cert: callerFiles.cert, key: callerFiles.key };
  const caller = await startDataPlane(t, outboundContent(beside.inboundPort, tls), {
    onCertificate: (where, _material, change) => replaced.push(`${where} ${change}`),
    onCertificateInvalid: (where, error) => invalid.push(`${where} ${error.file} ${error.message}`),
  });
  const clients = Array.from({ length: 4 }, () => new RawClient(t, caller.outboundPort));
  let running = true;
  let calls = 0;
  const failed: string[] = [];
  const load = clients.map(async (client) => {
    while (running) {
      const { code, details } = await client.unary(Buffer.from('x'));
      calls++;
      if (code !== grpc.status.OK) failed.push(details);
    }
  });
  const inUse = ({ sidecar }: DataPlane): string => [...sidecar.credentials()][0]!.material!.cert!;
  try {
    await waitUntil('calls run', () => calls > 50);
    // A new authority: both are trusted first, then the certificates change, as a rotation has to.
    const next = await TestAuthority.make('next');
    const both = authority.ca + next.ca;
    const nextServer = await next.issue({ names: ['localhost', '127.0.0.1', SERVER] });
    const nextCaller = await next.issue({ names: [CALLER] });
    const caOf = ({ sidecar }: DataPlane): string => [...sidecar.credentials()][0]!.material!.ca!;
    besideFiles.replace({ ...serverIssued, ca: both });
    callerFiles.replace({ ...callerIssued, ca: both });
    await waitUntil('both trust both', () => caOf(beside) === both && caOf(caller) === both);
    besideFiles.replace({ ...nextServer, ca: both });
    callerFiles.replace({ ...nextCaller, ca: both });
    await waitUntil(
      'both use the new ones',
      () => inUse(beside) === nextServer.cert && inUse(caller) === nextCaller.cert,
    );
    const before = calls;
    await waitUntil('calls continue', () => calls > before + 50);

    // What can't be used changes nothing but is told; the next good one is taken.
    callerFiles.replace({ cert: nextCaller.cert, key: nextServer.key, ca: both });
    await waitUntil('the wrong key was noticed', () => invalid.length > 0);
    t.strictSame(invalid, ['outbound.clusters.upstream.tls key is not the key of the certificate']);
    t.match([...caller.sidecar.credentials()][0]!.problem, /tls.key is not the key of the certificate; give/);
    t.equal(inUse(caller), nextCaller.cert);
    const meanwhile = calls;
    await waitUntil('calls still go on', () => calls > meanwhile + 50);
    callerFiles.replace({ ...callerIssued, ca: both });
    await waitUntil('the good one is in use', () => inUse(caller) === callerIssued.cert);
    t.equal([...caller.sidecar.credentials()][0]!.problem, '');
  } finally {
    running = false;
    await Promise.all(load);
  }
  t.strictSame(failed, [], `none of ${calls} calls failed`);
  t.ok(replaced.filter((line) => line.endsWith('replaced')).length >= 3, replaced.join());
});

t.test("a caller's certificate gives it its own rate and tasks", async (t) => {
  const app = await startUpstream(t);
  const { plane: beside } = await startInbound(t, {
    app: app.address,
    inbound: { rate_limit: { calls_per_second: 1, burst: 2 } },
  });
  const other = await authority.issue({ names: ['spiffe://example.org/ns/agents/sa/code'] });
  const { plane: one } = await startOutbound(t, beside.inboundPort);
  const { plane: again } = await startOutbound(t, beside.inboundPort);
  const { plane: another } = await startOutbound(t, beside.inboundPort, { issued: other });
  const callers = [one, again, another].map(({ outboundPort }) => new RawClient(t, outboundPort));
  const [first, second, third] = callers as [RawClient, RawClient, RawClient];
  t.equal((await first.unary(Buffer.from('a'))).code, grpc.status.OK);
  t.equal((await second.unary(Buffer.from('b'))).code, grpc.status.OK);
  const many = await Promise.all([1, 2, 3].map(() => second.unary(Buffer.from('c'))));
  t.ok(
    many.some(({ code }) => code === grpc.status.RESOURCE_EXHAUSTED),
    'one identity is one caller',
  );
  t.equal((await third.unary(Buffer.from('d'))).code, grpc.status.OK, 'from the same address, but another');
});

t.test("one caller does not get the answer to another caller's task", async (t) => {
  const { stringField } = await import('../sidecar/task/protobuf.ts');
  const app = await startUpstream(t);
  const { plane: beside } = await startInbound(t, { app: app.address });
  const other = await authority.issue({ names: ['spiffe://example.org/ns/agents/sa/code'] });
  const { plane: one } = await startOutbound(t, beside.inboundPort);
  const { plane: another } = await startOutbound(t, beside.inboundPort, { issued: other });
  const request = Buffer.concat([stringField(1, 'task-1'), stringField(4, 'the same words')]);
  const send = (plane: DataPlane) =>
    new RawClient(t, plane.outboundPort).unary(request, { path: '/agent.AgentService/ProcessTask' });
  await send(one);
  await send(one);
  t.equal(app.calls.length, 1, 'the same caller gets the answer again');
  await send(another);
  t.equal(app.calls.length, 2, 'another one has the task run for itself');
});

t.test("a caller's certificate gives it its own places, and its own budget or none", async (t) => {
  const app = await startUpstream(t, {
    onCall: ({ stream, headers }) => {
      if (headers['x-hold'] === undefined) stream.on('end', () => answerWith(stream, 'ok')).resume();
    },
  });
  const { plane: beside } = await startInbound(t, {
    app: app.address,
    inbound: { max_concurrent_calls: 8, token_budget: { from: 'identified', allow_identities: [CALLER] } },
  });
  const other = await authority.issue({ names: ['spiffe://example.org/ns/agents/sa/code'] });
  const { plane: one } = await startOutbound(t, beside.inboundPort);
  const { plane: another } = await startOutbound(t, beside.inboundPort, { issued: other });
  const [first, second] = [new RawClient(t, one.outboundPort), new RawClient(t, another.outboundPort)];
  const fields = new grpc.Metadata();
  fields.set('outrigger-token-budget', '5');
  for (const client of [first, second])
    t.equal((await client.unary(Buffer.from('a'), { metadata: fields })).code, grpc.status.OK);
  t.strictSame(
    app.calls.map(({ headers }) => headers['outrigger-token-budget']),
    ['5', undefined],
    'from an identity that may, and from another',
  );

  const hold = new grpc.Metadata();
  hold.set('x-hold', '1');
  const outcomes: grpc.status[] = [];
  for (let i = 0; i < 8; i++)
    void first.unary(Buffer.from('b'), { metadata: hold }).then(({ code }) => outcomes.push(code));
  await waitUntil('one is refused', () => outcomes.length === 1);
  t.equal(outcomes[0], grpc.status.RESOURCE_EXHAUSTED, 'seven of eight are its share');
  t.equal((await second.unary(Buffer.from('c'))).code, grpc.status.OK, 'from the same address, but another');
});

t.test('an unfinished handshake ends, and blocks no others', async (t) => {
  const app = await startUpstream(t);
  const { plane: beside } = await startInbound(t, { app: app.address });
  const { listener } = beside.sidecar.inbound;
  const sockets: Socket[] = [];
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
  });
  const stall = (first: Buffer): Promise<Socket> =>
    new Promise((resolve) => {
      const socket = connectPlain(beside.inboundPort, '127.0.0.1', () => {
        if (first.length > 0) socket.write(first);
        resolve(socket);
      });
      socket.on('error', () => {});
      sockets.push(socket);
    });
  const halfHello = Buffer.from([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]);
  for (let i = 0; i < MAX_HANDSHAKES + 20; i++) await stall(i % 2 === 0 ? halfHello : Buffer.alloc(0));
  await waitUntil('they wait', () => listener.tlsAcceptor!.waitingCount >= MAX_HANDSHAKES - 20);
  t.ok(listener.tlsAcceptor!.waitingCount <= MAX_HANDSHAKES, 'no more than so many wait');
  const { plane: caller } = await startOutbound(t, beside.inboundPort);
  const found = await new RawClient(t, caller.outboundPort).unary(Buffer.from('x'));
  t.equal(found.code, grpc.status.OK, 'others still come in');
  await waitUntil('all were sent away', () => listener.tlsAcceptor!.waitingCount === 0, {
    limitMs: HANDSHAKE_TIMEOUT_MS + 20_000,
  });
  t.ok(rejected(beside)['tls_timeout']! >= MAX_HANDSHAKES, 'and were counted');
  t.equal(listener.connectionCount, 1);

  const cut = await stall(halfHello);
  await waitUntil('it waits', () => listener.tlsAcceptor!.waitingCount === 1);
  cut.destroy();
  await waitUntil('its going is noticed', () => rejected(beside)['tls_cut'] === 1);
  t.equal(listener.tlsAcceptor!.waitingCount, 0);
  const before = JSON.stringify(rejected(beside));
  t.ok(await canConnect(beside.inboundPort));
  await waitUntil('a probe of the port leaves nothing', () => listener.tlsAcceptor!.waitingCount === 0);
  t.equal(JSON.stringify(rejected(beside)), before, 'and is no refusal');
});

t.test('messages of all sizes pass completely, many at once', async (t) => {
  const app = await startRawServer(t, {}, { 'grpc.max_send_message_length': -1 });
  const { plane: beside } = await startInbound(t, { app: app.address });
  const { plane: caller } = await startOutbound(t, beside.inboundPort);
  const clients = Array.from({ length: 3 }, () => new RawClient(t, caller.outboundPort));
  const sizes = [0, 1, 90, 97, 2_047, 2_049, 16_379, 16_385, 65_531, 131_072, 400_000, 1_048_576, 3_000_000];
  const requests = Array.from({ length: 4 }, () => sizes)
    .flat()
    .map((size) => randomBytes(size));
  const answers = await Promise.all(requests.map((request, i) => clients[i % 3]!.unary(request)));
  for (const [i, { code, response }] of answers.entries())
    t.ok(code === grpc.status.OK && response?.equals(requests[i]!), `${requests[i]!.length} bytes`);
});

t.test('many simultaneous new connections succeed, between the calls of others', async (t) => {
  const app = await startUpstream(t);
  const { plane: beside } = await startInbound(t, { app: app.address });
  const { plane: caller } = await startOutbound(t, beside.inboundPort);
  const client = new RawClient(t, caller.outboundPort);
  t.equal((await client.unary(Buffer.from('x'))).code, grpc.status.OK);
  const settings = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0', 'latin1');
  const sockets = Array.from({ length: 150 }, () =>
    connectTls({
      port: beside.inboundPort,
      host: '127.0.0.1',
      ca: authority.ca,
      servername: 'localhost',
      ALPNProtocols: ['h2'],
      ...callerIssued,
    }),
  );
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
  });
  const answered = sockets.map(
    (socket) =>
      new Promise<boolean>((resolve) => {
        socket.write(settings);
        socket.once('data', () => resolve(true));
        socket.once('close', () => resolve(false));
        socket.on('error', () => {});
      }),
  );
  const calls = Array.from({ length: 20 }, () => client.unary(Buffer.from('x')));
  t.ok((await Promise.all(answered)).every(Boolean), 'each was let in');
  t.ok((await Promise.all(calls)).every(({ code }) => code === grpc.status.OK));
  t.equal(beside.sidecar.inbound.listener.connectionCount, 151);
  t.strictSame(rejected(beside), {});
});

t.test(
  'an endpoint that accepts the connection and never completes the handshake is unreachable',
  async (t) => {
    const silent = createPlainServer(() => {});
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    t.teardown(() => silent.close());
    const { port } = silent.address() as import('node:net').AddressInfo;
    const { plane, said } = await startOutbound(t, port, { settings: { connect_timeout: '300ms' } });
    const found = await new RawClient(t, plane.outboundPort).unary(Buffer.from('x'));
    t.equal(found.code, grpc.status.UNAVAILABLE);
    t.match(said[0], /no HTTP\/2 SETTINGS from 127\.0\.0\.1:\d+ within 300 ms/);
  },
);

t.test('bytes that are not TLS, and invalid bytes later, end one connection alone', async (t) => {
  const app = await startUpstream(t);
  const { plane: beside } = await startInbound(t, { app: app.address });
  const { plane: caller } = await startOutbound(t, beside.inboundPort);
  const client = new RawClient(t, caller.outboundPort);
  t.equal((await client.unary(Buffer.from('x'))).code, grpc.status.OK);
  for (const bytes of [
    Buffer.alloc(400, 0x16),
    Buffer.from([0x16, 3, 1, 0xff, 0xff, 1]),
    Buffer.from([0x15, 3, 3, 0, 2, 2, 40]),
  ]) {
    const socket = connectPlain(beside.inboundPort, '127.0.0.1', () => socket.write(bytes));
    socket.on('error', () => {});
    const closed = new Promise((resolve) => socket.on('close', resolve));
    socket.resume();
    await closed;
  }
  t.equal((await client.unary(Buffer.from('x'))).code, grpc.status.OK);
  t.equal(beside.sidecar.inbound.listener.connectionCount, 1);
});

t.test('sessions are not resumed: each connection verifies its certificate', async (t) => {
  const app = await startUpstream(t);
  const { plane: beside } = await startInbound(t, { app: app.address });
  const first = await new Promise<Buffer | undefined>((resolve) => {
    const socket = connectTls({
      port: beside.inboundPort,
      host: '127.0.0.1',
      ca: authority.ca,
      servername: 'localhost',
      ALPNProtocols: ['h2'],
      ...callerIssued,
    });
    let session: Buffer | undefined;
    socket.on('session', (given) => (session = given));
    socket.on('secureConnect', () => setTimeout(() => socket.destroy(), 200));
    socket.on('close', () => resolve(session));
  });
  const reused = await new Promise<boolean>((resolve) => {
    const socket = connectTls(
      {
        port: beside.inboundPort,
        host: '127.0.0.1',
        ca: authority.ca,
        servername: 'localhost',
        ALPNProtocols: ['h2'],
        ...callerIssued,
        ...(first && { session: first }),
      },
      () => {
        resolve(socket.isSessionReused());
        socket.destroy();
      },
    );
  });
  t.equal(reused, false);
});

t.test('a whole sidecar shows a replaced certificate in metrics, log and admin pages', async (t) => {
  const app = await startUpstream(t);
  const files = volume(t, serverIssued);
  const sidecar = await startSidecar(t, {
    inbound: { app: app.address, tls: { cert: files.cert, key: files.key, client_ca: files.ca } },
    log: { access: true },
  });
  const { plane: caller } = await startOutbound(t, sidecar.inboundPort);
  t.equal((await new RawClient(t, caller.outboundPort).unary(Buffer.from('x'))).code, grpc.status.OK);
  const { plane: wrong } = await startOutbound(t, sidecar.inboundPort, {
    issued: await selfSigned([CALLER]),
  });
  await new RawClient(t, wrong.outboundPort).unary(Buffer.from('x'));
  const metrics = async (): Promise<string> =>
    (await fetch(`http://127.0.0.1:${sidecar.metricsPort}/metrics`)).text();
  const page = await metrics();
  const expiry = Number(
    /^outrigger_certificate_expiry_seconds\{setting="inbound.tls"\} (\d+)/m.exec(page)?.[1],
  );
  t.ok(expiry > 3_000 && expiry <= 3_600, `expires in ${expiry} s`);
  t.match(page, /^outrigger_certificate_invalid\{setting="inbound.tls"\} 0$/m);
  t.match(page, /^outrigger_rejected_total\{listener="inbound",reason="tls_self_signed"\} [1-9]/m);
  await untilLogged(t, sidecar, /refused a caller \(tls_self_signed\): caller \\"spiffe:.*is self-signed/);
  await untilLogged(t, sidecar, new RegExp(`"listener":"inbound","caller":"${CALLER}"`));
  files.replace({ cert: serverIssued.cert, key: 'not a key', ca: authority.ca });
  await waitUntil('it was noticed', async () =>
    /certificate_invalid\{setting="inbound.tls"\} 1/.test(await metrics()),
  );
  t.match(
    sidecar.logs(),
    /inbound.tls: the new key file holds no private key in PEM; the previous certificate stays in use/,
  );
  const later = await authority.issue({
    names: ['localhost', '127.0.0.1'],
    notAfterMs: Date.now() + 3 * HOUR_MS,
  });
  files.replace({ ...later, ca: authority.ca });
  await waitUntil('the new one is in use', async () =>
    /expiry_seconds\{setting="inbound.tls"\} 10\d\d\d/.test(await metrics()),
  );
  const events = (await (await fetch(`http://127.0.0.1:${sidecar.adminPort}/stats`)).json()) as {
    certificates: Section;
  };
  t.match(events.certificates, { 'inbound.tls': { problem: '', identities: ['localhost'] } });
  for (const path of ['config', 'stats', 'clusters']) {
    const text = await (await fetch(`http://127.0.0.1:${sidecar.adminPort}/${path}`)).text();
    t.notMatch(text, /PRIVATE KEY/);
  }
  t.notMatch(sidecar.logs(), readFileSync(files.key, 'utf8').split('\n')[1]!, 'no key in the log');
});
