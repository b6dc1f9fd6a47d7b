// Endpoints that are no gRPC servers: the caller, the log and the counters say what they are and what to do.
import { createServer as createHttpServer } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { createServer as createTlsServer } from 'node:tls';
import t, { type Test } from 'tap';
import { TestAuthority } from '../scripts/harness/certificates.ts';
import { oneCluster, startDataPlane } from '../scripts/harness/data-plane.ts';
import { startProcess } from '../scripts/harness/process.ts';
import { RawClient } from '../scripts/harness/raw-grpc.ts';
import { requireTool, skipWithout } from '../scripts/harness/tool.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';

async function portOf(t: Test, server: Server): Promise<number> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
  });
  server.on('tlsClientError', () => {});
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

/** Says this to whoever connects, or to the first bytes that come. */
const saying = (bytes: string | Buffer, first = true): Server =>
  createServer((socket) => {
    if (first) socket.write(bytes);
    else socket.once('data', () => socket.write(bytes));
  });

interface Case {
  readonly server: (t: Test) => Promise<Server> | Server;
  readonly reason: string;
  readonly says: RegExp;
  readonly settings?: Record<string, unknown>;
}

const authority = await TestAuthority.make();
const { cert, key } = await authority.issue({ names: ['localhost'] });
const caFile = join(t.testdir({ 'ca.pem': authority.ca }), 'ca.pem');
const overTls = { tls: { ca: caFile, server_name: 'localhost' } };

const cases: Record<string, Case> = {
  'an HTTP/1 server': {
    server: () => createHttpServer((_request, response) => response.end('hello')),
    reason: 'http1',
    says: /HTTP\/1 server; it answered "HTTP\/1\.1 400 Bad Request", and gRPC needs HTTP\/2: give the address/,
  },
  'an HTTP/1 server that answers a byte at a time': {
    server: () =>
      createServer((socket) => {
        socket.setNoDelay(true);
        let at = 0;
        const text = 'HTTP/1.0 505 HTTP Version Not Supported\r\n\r\n';
        const write = (): void => {
          if (at < text.length && !socket.destroyed) socket.write(text[at++]!, () => setImmediate(write));
        };
        write();
      }),
    reason: 'http1',
    says: /HTTP\/1 server; it answered "HTTP/,
  },
  'a web server that answers with a page alone': {
    server: () => saying('<!DOCTYPE HTML>\n<html>Bad request version</html>', false),
    reason: 'http1',
    says: /HTTP\/1 server; it answered "<!DOCTYPE HTML>"/,
  },
  'the TLS port of a web server': {
    server: () =>
      saying('HTTP/1.1 400 Bad Request\r\n\r\nThe plain HTTP request was sent to HTTPS port', false),
    reason: 'tls_wanted',
    says: /HTTP\/1 server that wants TLS; .*set tls for its cluster, or give its plain text port/,
  },
  'a TLS server that sends an alert': {
    server: () => saying(Buffer.from([0x15, 3, 3, 0, 2, 2, 70]), false),
    reason: 'tls_wanted',
    says: /TLS server, spoken to in plain text; set tls for its cluster/,
  },
  'a TLS server that goes': {
    server: () => createTlsServer({ cert, key }),
    reason: 'connection_lost',
    says: /before its SETTINGS: a server that wants TLS, speaks only HTTP\/1 or is starting does so/,
  },
  'an SSH server': {
    server: () => saying('SSH-2.0-OpenSSH_9.9\r\n'),
    reason: 'not_http2',
    says: /SSH server; it began with "SSH-2\.0-OpenSSH_9\.9", and gRPC needs HTTP\/2/,
  },
  'a mail server': {
    server: () => saying('220 mail.example ESMTP\x07\r\n'),
    reason: 'not_http2',
    says: /not an HTTP\/2 server; it began with "220 mail\.example ESMTP\."/,
  },
  'one that closes at once': {
    server: () => createServer((socket) => socket.end()),
    reason: 'connection_lost',
    says: /the peer closed the connection before its SETTINGS: a server that wants TLS/,
  },
  'one that says nothing': {
    server: () => createServer(() => {}),
    reason: 'connect_timeout',
    settings: { connect_timeout: '200ms' },
    says: /no HTTP\/2 SETTINGS from 127\.0\.0\.1:\d+ within 200 ms: a server that wants TLS/,
  },
  'a plain text server that is spoken to in TLS': {
    server: () => createHttpServer((_request, response) => response.end('hello')),
    reason: 'tls_plain_text',
    settings: overTls,
    says: /the other side does not speak TLS; is it a plain text port/,
  },
  'a web server with TLS that has no HTTP/2': {
    server: () => createHttpsServer({ cert, key }, (_request, response) => response.end('hello')),
    reason: 'tls_no_alpn',
    settings: overTls,
    says: /HTTP\/2 \(ALPN h2\)/,
  },
};

for (const [name, { server, reason, says, settings }] of Object.entries(cases)) {
  t.test(name, async (t) => {
    const address = `127.0.0.1:${await portOf(t, await server(t))}`;
    const said: string[] = [];
    const plane = await startDataPlane(t, oneCluster([address], settings), {
      onConnectFailed: ({ name: cluster }, _endpoint, message) => {
        if (cluster === 'upstream') said.push(message);
      },
    });
    const { code, details, trailers } = await new RawClient(t, plane.outboundPort).unary(Buffer.from('x'));
    t.equal(code, 14);
    t.strictSame(trailers.get('outrigger-reason'), ['connect_failed']);
    t.match(details, says, 'the caller gets the reason');
    t.match(said[0], says, 'and the log');
    const cluster = plane.sidecar.outbound.clusters.clusters.get('upstream')!;
    t.ok((cluster.connectFailures.get(reason) ?? 0) > 0, JSON.stringify([...cluster.connectFailures]));
    t.match(cluster.endpoints[0]!.unusableBecause, says, 'and whoever looks at /clusters');
  });
}

t.test('a web server in Python works as the app', { skip: skipWithout('python') }, async (t) => {
  const program = [
    'import http.server',
    's = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)',
    'print(s.server_port, flush=True)',
    's.serve_forever()',
  ].join('\n');
  const web = startProcess(t, requireTool('python'), ['-c', program]);
  const port = await waitUntil('it said its port', () => /^(\d+)$/m.exec(web.logs())?.[1]);
  const plane = await startDataPlane(t, { inbound: { app: `127.0.0.1:${port}` } });
  const { code, details } = await new RawClient(t, plane.inboundPort).unary(Buffer.from('x'));
  t.equal(code, 14);
  t.match(
    details,
    /HTTP\/1 server; it answered .*, and gRPC needs HTTP\/2: give the address of its gRPC port/,
  );
});
