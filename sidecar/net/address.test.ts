// Parsing and formatting of addresses.
import t from 'tap';
import { seededRandom } from '../../test/support/seeded-random.ts';
import { connectionBackoffMs } from '../cluster/connection/reconnect.ts';
import { StaticDiscovery } from '../cluster/discovery/static.ts';
import { AddressError, formatAddress, formatHostPort, isLiteral, parseAddress } from './address.ts';

t.test('parsing and formatting give one canonical form', async (t) => {
  const expected: [string, object, string?][] = [
    ['127.0.0.1:50051', { kind: 'tcp', host: '127.0.0.1', port: 50_051 }],
    ['writing-agent-headless:50051', { kind: 'tcp', host: 'writing-agent-headless', port: 50_051 }],
    [
      'Agent_1.Default.svc.:1',
      { kind: 'tcp', host: 'agent_1.default.svc.', port: 1 },
      'agent_1.default.svc.:1',
    ],
    ['[::1]:50051', { kind: 'tcp', host: '::1', port: 50_051 }],
    ['[fe80::1%eth0]:65535', { kind: 'tcp', host: 'fe80::1%eth0', port: 65_535 }],
    ['unix:/run/agent.sock', { kind: 'unix', path: '/run/agent.sock' }],
    ['unix:///run/agent.sock', { kind: 'unix', path: '/run/agent.sock' }, 'unix:/run/agent.sock'],
    ['unix:relative/agent.sock', { kind: 'unix', path: 'relative/agent.sock' }],
    [`unix:/${'a'.repeat(106)}`, { kind: 'unix', path: `/${'a'.repeat(106)}` }],
  ];
  for (const [text, address, canonical = text] of expected) {
    t.strictSame(parseAddress(text), address, text);
    t.equal(formatAddress(parseAddress(text)), canonical);
    t.strictSame(parseAddress(canonical), address);
  }
  t.strictSame(parseAddress('0.0.0.0:0', { forListening: true }), { kind: 'tcp', host: '0.0.0.0', port: 0 });
  t.equal(formatHostPort('::1', 5), '[::1]:5');
  t.strictSame(['10.0.0.1', '::1', 'localhost'].map(isLiteral), [true, true, false]);
});

t.test('the error for an unusable address gives the reason and the right form', async (t) => {
  const expected: [string, RegExp][] = [
    ['', /the port is missing; write host:port/],
    ['localhost', /the port is missing/],
    ['[::1]', /the port is missing/],
    [':50051', /the host is missing/],
    ['::1:50051', /needs brackets; write \[::1\]:50051/],
    ['[10.0.0.1]:80', /not an IPv6 address/],
    ['[::1:80', /not an IPv6 address/],
    ['[::g]:80', /not an IPv6 address/],
    ['10.0.0.256:80', /not an IPv4 address/],
    ['1234:80', /not an IPv4 address/],
    ['host:', /"" is not a port; use a number from 1 to 65535/],
    ['host:0', /"0" is not a port/],
    ['host:65536', /"65536" is not a port/],
    ['host:http', /"http" is not a port/],
    ['host: 80', /" 80" is not a port/],
    ['-host:80', /not a name; use letters/],
    ['ho st:80', /not a name/],
    ['a..b:80', /not a name/],
    ['höst:80', /not a name/],
    [`${'a'.repeat(64)}:80`, /not a name/],
    [`${'a.'.repeat(150)}a:80`, /not a name/],
    ['http://host:80', /looks like a URL/],
    ['/run/agent.sock', /write host:port, or unix:PATH/],
    ['unix:', /the path is missing/],
    ['unix://host/path', /a Unix socket has no host/],
    ['unix:/a\0b', /NUL/],
    [`unix:/${'a'.repeat(107)}`, /longer than 107 bytes/],
    [`unix:/${'é'.repeat(54)}`, /longer than 107 bytes/],
  ];
  for (const [text, message] of expected) {
    t.throws(() => parseAddress(text), { name: 'AddressError', message }, JSON.stringify(text.slice(0, 30)));
  }
  t.throws(() => parseAddress('host:65536', { forListening: true }), /from 0 to 65535/);
  try {
    parseAddress('x'.repeat(1_000_000));
  } catch (error) {
    t.ok((error as Error).message.length < 250, 'the message stays short');
  }
});

t.test('static discovery reports the canonical list once, without repeats', async (t) => {
  const seen: (readonly string[])[] = [];
  const discovery = new StaticDiscovery(['[::1]:2', 'b:1', 'a:1', 'B:1', 'unix:///run/a.sock']);
  discovery.start((addresses) => seen.push(addresses));
  discovery.refresh();
  discovery.stop();
  t.strictSame(seen, [['[::1]:2', 'a:1', 'b:1', 'unix:/run/a.sock']]);
  t.throws(() => new StaticDiscovery(['a:1', 'b']), AddressError);
});

t.test('connection back-off is the one of gRPC', async (t) => {
  const waits = [1, 2, 3, 4, 11, 12, 1000].map((failures) => Math.round(connectionBackoffMs(failures, 0.5)));
  t.strictSame(waits, [1000, 1600, 2560, 4096, 109_951, 120_000, 120_000]);
  const random = seededRandom(4);
  const first = Array.from({ length: 1000 }, () => connectionBackoffMs(1, random()));
  t.ok(
    Math.min(...first) >= 800 &&
      Math.min(...first) < 810 &&
      Math.max(...first) <= 1200 &&
      Math.max(...first) > 1190,
  );
});
