// What tools may reach: addresses, names, redirects, and the connection of a run.
import dns from 'node:dns';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { syncBuiltinESMExports } from 'node:module';
import { connect, createServer as createTcpServer } from 'node:net';
import t, { type Test } from 'tap';
import { isForbidden, isPublic, plainAddress } from './addresses.ts';
import { AllowList, NotAllowed } from './allow-list.ts';
import { fetchAllowed, TooLong } from './fetch.ts';
import { serveProxy } from './proxy.ts';

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

/** A server on 127.0.0.1, and the requests that reached it. */
async function site(t: Test, handler: Handler): Promise<{ port: number; seen: string[] }> {
  const seen: string[] = [];
  const server: Server = createServer((request, response) => {
    seen.push(`${request.method} ${request.url}`);
    handler(request, response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
  });
  return { port: (server.address() as { port: number }).port, seen };
}

const refusal = (work: () => unknown): string => {
  try {
    work();
  } catch (error) {
    if (error instanceof NotAllowed) return error.message;
    throw error;
  }
  return '';
};

t.test('addresses have one form, and special ones are no public servers', async (t) => {
  const forms: Record<string, string> = {
    '::ffff:10.0.0.1': '10.0.0.1',
    '::FFFF:7f00:1': '127.0.0.1',
    '0:0:0:0:0:ffff:a9fe:a9fe': '169.254.169.254',
    'fe80::1%eth0': 'fe80::1',
    '2606:4700:0:0::1': '2606:4700::1',
    '8.8.8.8': '8.8.8.8',
  };
  for (const [given, plain] of Object.entries(forms)) t.equal(plainAddress(given), plain);
  for (const address of ['8.8.8.8', '93.184.216.34', '2606:4700::1111']) t.ok(isPublic(address), address);
  for (const address of [
    ...['0.0.0.0', '10.1.2.3', '100.64.0.1', '127.0.0.1', '169.254.169.254', '172.31.0.1', '192.168.1.1'],
    ...['198.18.0.1', '203.0.113.5', '224.0.0.1', '255.255.255.255', '::', '::1', 'fc00::1', 'fe80::1'],
    ...['ff02::1', '64:ff9b::a9fe:a9fe', '2002:a9fe:a9fe::1', '2001:db8::1', '2001::1'],
  ])
    t.notOk(isPublic(address), address);
  for (const address of ['169.254.169.254', 'fd00:ec2::254', 'fe80::1', '0.0.0.0', '100.100.100.200'])
    t.ok(isForbidden(address), address);
});

t.test('the allow list names hosts, ports and networks', async (t) => {
  const list = new AllowList([
    'Example.com',
    '*.docs.dev:8443',
    '10.0.0.0/8:8080',
    '[fd00::1]:80',
    '192.168.1.5',
  ]);
  const host = (name: string, port: number) => refusal(() => list.checkHost(name, port));
  t.equal(host('example.com', 443), '');
  t.equal(host('EXAMPLE.com.', 80), '');
  t.match(host('example.com', 8080), /not in tools.network.allow/);
  t.match(host('sub.example.com', 443), /not in/);
  t.match(host('example.com.evil.dev', 443), /not in/);
  t.equal(host('a.b.docs.dev', 8443), '');
  t.match(host('docs.dev', 8443), /not in/, 'subdomains only');
  t.equal(host('10.1.2.3', 8080), '');
  t.match(host('10.1.2.3', 80), /not in/);
  t.equal(host('[fd00::1]', 80), '');
  t.equal(host('192.168.1.5', 443), '');
  t.match(host('8.8.8.8', 443), /not in/, 'a public address has to be listed, too');
  t.match(host('[::ffff:192.168.1.6]', 80), /not in/);

  const address = (name: string, found: string, port = 443) =>
    refusal(() => list.checkAddress(name, found, port));
  t.equal(address('example.com', '93.184.216.34'), '');
  t.match(address('example.com', '127.0.0.1'), /not public/);
  t.match(address('example.com', '::ffff:10.0.0.1'), /not public/, 'the network is for its port');
  t.equal(address('example.com', '10.0.0.1', 8080), '');
  t.match(address('example.com', '169.254.169.254'), /no tool may reach/);
  const all = new AllowList(['0.0.0.0/0', '::/0', 'example.com']);
  for (const found of ['169.254.169.254', '::ffff:169.254.169.254', 'fd00:ec2::254'])
    t.match(
      refusal(() => all.checkAddress('example.com', found, 443)),
      /no tool may reach/,
      found,
    );
  for (const wrong of [
    'http://example.com',
    'exa mple.com',
    '10.0.0.0/40',
    'example.com/8',
    'a:99999',
    '*.*.com',
    '',
  ])
    t.throws(() => new AllowList([wrong]), { message: /tools.network.allow/ }, wrong);
});

t.test('http_fetch checks each redirect, and the address that it connects to', async (t) => {
  const inner = await site(t, (_, response) => response.end('a secret of the inner network'));
  const outer = await site(t, ({ url }, response) => {
    const to: Record<string, string> = {
      '/inner': `http://127.0.0.1:${inner.port}/`,
      '/name': `http://localhost:${inner.port}/`,
      '/metadata': 'http://169.254.169.254/latest/meta-data/',
      '/mapped': `http://[::ffff:127.0.0.1]:${inner.port}/`,
      '/decimal': `http://2130706433:${inner.port}/`,
      '/file': 'file:///etc/passwd',
      '/user': `http://user:key@127.0.0.1:${outer.port}/`,
      '/loop': '/loop',
      '/good': '/page',
    };
    const location = to[url ?? ''];
    if (location !== undefined) response.writeHead(302, { location }).end();
    else if (url === '/long') response.end(Buffer.alloc(70_000));
    else response.writeHead(200, { 'content-type': 'text/plain' }).end('the page');
  });
  const allow = new AllowList([
    `127.0.0.1:${outer.port}`,
    `localhost:${outer.port}`,
    `localhost:${inner.port}`,
  ]);
  const get = (path: string, host = '127.0.0.1') =>
    fetchAllowed(allow, `http://${host}:${outer.port}${path}`, 'GET', 65_536, AbortSignal.timeout(10_000));
  t.match(await get('/good'), {
    status: 200,
    url: `http://127.0.0.1:${outer.port}/page`,
    type: 'text/plain',
  });
  t.equal(
    (await get('/page', 'localhost')).body.toString(),
    'the page',
    'a listed address, by a listed name',
  );
  for (const path of ['/inner', '/name', '/metadata', '/mapped', '/decimal', '/file', '/user', '/loop'])
    await t.rejects(get(path), { name: 'NotAllowed' }, path);
  t.same(inner.seen, [], 'nothing reached the inner network');
  await t.rejects(get('/long'), TooLong);
  await t.rejects(
    fetchAllowed(
      new AllowList([]),
      `http://127.0.0.1:${outer.port}/`,
      'GET',
      1000,
      AbortSignal.timeout(5_000),
    ),
    NotAllowed,
  );
});

t.test('a resolver that changes its answers leads nowhere', async (t) => {
  const inner = await site(t, (_, response) => response.end('a secret of the inner network'));
  const real = dns.lookup;
  t.teardown(() => {
    dns.lookup = real;
    syncBuiltinESMExports();
  });
  let asked = 0;
  let answers: string[][] = [];
  dns.lookup = ((_name: string, _options: object, answer: (...args: unknown[]) => void) => {
    const addresses = answers[Math.min(asked++, answers.length - 1)]!;
    answer(
      null,
      addresses.map((address) => ({ address, family: 4 })),
    );
  }) as unknown as typeof real;
  syncBuiltinESMExports();
  const get = async (allowed: string, ...given: string[][]) => {
    asked = 0;
    answers = given;
    const allow = new AllowList([`rebind.example:${inner.port}`, allowed]);
    const url = `http://rebind.example:${inner.port}/`;
    return fetchAllowed(allow, url, 'GET', 65_536, AbortSignal.timeout(10_000));
  };
  const other = `127.0.0.2:${inner.port}`;
  await t.rejects(get(other, ['127.0.0.1']), { name: 'NotAllowed' });
  await t.rejects(get(other, ['127.0.0.2', '127.0.0.1']), { name: 'NotAllowed' }, 'one of several');
  await t.rejects(get(other, ['127.0.0.2'], ['127.0.0.1']), { code: 'ECONNREFUSED' });
  t.equal(asked, 1, 'what was checked is what is connected to');
  t.same(inner.seen, [], 'nothing reached the inner network');
  t.equal(
    (await get(`127.0.0.1:${inner.port}`, ['127.0.0.1'])).status,
    200,
    'the resolver is the one in use',
  );
});

t.test("a run's connection carries requests to allowed hosts, and no others", async (t) => {
  const inner = await site(t, (_, response) => response.end('secret'));
  const outer = await site(t, (request, response) => {
    let body = '';
    request.on('data', (chunk) => (body += chunk));
    request.on('end', () => response.end(`${request.headers['x-own']} ${request.headers.host} ${body}`));
  });
  const allow = new AllowList([`127.0.0.1:${outer.port}`]);
  // A pair of connected sockets stands for descriptor 3.
  const gate = createTcpServer((socket) => serveProxy(socket, allow, 4_000, AbortSignal.timeout(20_000)));
  gate.listen(0, '127.0.0.1');
  await once(gate, 'listening');
  t.teardown(() => gate.close());
  const { port } = gate.address() as { port: number };
  const talk = async (...requests: string[]): Promise<string> => {
    const run = connect(port, '127.0.0.1');
    let said = '';
    run.setEncoding('utf8').on('data', (text) => {
      said += text;
      if (said.split('HTTP/1.1 ').length > requests.length && said.endsWith('0\r\n\r\n')) run.end();
    });
    run.on('error', () => {});
    run.write(requests.join(''));
    await once(run, 'close');
    return said;
  };
  const post = `POST http://127.0.0.1:${outer.port}/x HTTP/1.1\r\nhost: other\r\nx-own: mine\r\ncontent-length: 4\r\n\r\nbody`;
  const both = await talk(post, post);
  t.equal(both.match(new RegExp(`mine 127.0.0.1:${outer.port} body`, 'g'))?.length, 2, 'one after the other');
  t.match(
    await talk(`GET http://127.0.0.1:${inner.port}/ HTTP/1.1\r\nhost: x\r\n\r\n`),
    /403 Forbidden[\s\S]*not in tools/,
  );
  t.match(await talk('GET http://169.254.169.254/ HTTP/1.1\r\nhost: x\r\n\r\n'), /403 Forbidden/);
  t.match(await talk(`CONNECT 127.0.0.1:${inner.port} HTTP/1.1\r\nhost: x\r\n\r\n`), /405/);
  t.match(await talk('GET / HTTP/1.1\r\nhost: ///\r\n\r\n'), /403/);
  const large = `POST http://127.0.0.1:${outer.port}/x HTTP/1.1\r\nhost: x\r\ncontent-length: 9000\r\n\r\n${'y'.repeat(9000)}`;
  t.match(await talk(large), /502 Bad Gateway[\s\S]*network bytes/);
  await talk('no HTTP at all\r\n\r\n');
  t.same(inner.seen, []);
});
