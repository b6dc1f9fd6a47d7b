// Comparison of server names.

import t from 'tap';
import fc from '../../scripts/harness/properties.ts';
import { nameScopeOf } from '../cluster/discovery/name-scope.ts';
import { hostName, isSameAuthority, NO_SCOPE, parseAuthority, splitAuthority } from './authority.ts';

t.test('parsing an authority gives host and port for every form', async (t) => {
  const read: [text: string, host: string, port: number][] = [
    ['Writing-Agent', 'writing-agent', 0],
    ['writing-agent.:050051', 'writing-agent', 50051],
    ['a:', 'a', 0],
    ['a:b', 'a:b', 0],
    [':80', '', 80],
    ['.', '.', 0],
    ['', '', 0],
    ['127.0.0.1:1', '127.0.0.1', 1],
    ['[::1]', '::1', 0],
    ['[::1]:7', '::1', 7],
    ['::1', '::1', 0],
    ['[0:0:0:0:0:0:0:1]:7', '::1', 7],
    ['2001:DB8:0:0:1::1', '2001:db8::1:0:0:1', 0],
    ['[::ffff:10.0.0.1]:7', '::ffff:a00:1', 7],
    ['[fe80::1%25eth0]:7', 'fe80::1%25eth0', 7],
    ['[not an address]:7', 'not an address', 7],
    ['[::1', '[::1', 0],
    ['-..', '-..', 0],
    ['..', '..', 0],
    ['[a.].', 'a', 0],
    ['[[a]].', 'a', 0],
    [':.', ':.', 0],
    ['a:80.', 'a:80.', 0],
    ['[a:80]', '[a:80]', 0],
  ];
  for (const [text, host, port] of read)
    t.strictSame(splitAuthority(text), { host, port }, JSON.stringify(text));
});

t.test('a formatted authority compares equal to the original', async () => {
  const scope = { namespace: 'agents', clusterDomain: 'cluster.local' };
  const label = fc.stringMatching(/^[a-zA-Z0-9-]{1,5}$/);
  const name = fc.array(fc.oneof(label, fc.constantFrom('svc', 'agents', 'cluster', 'local')), {
    minLength: 1,
    maxLength: 6,
  });
  const text = fc.oneof(
    name.map((labels) => labels.join('.')),
    fc.ipV6().map((address) => `[${address}]`),
    fc.string(),
    // Texts of the few characters that mean something: a plain string rarely has two of them.
    fc.string({ unit: fc.constantFrom('a', '.', ':', '[', ']', '1', '%') }),
  );
  fc.assert(
    fc.property(
      text,
      fc.integer({ min: 1, max: 65_535 }),
      fc.constantFrom(NO_SCOPE, scope),
      (one, port, within) => {
        const known = parseAuthority(one, within);
        const again = parseAuthority(known.host, within);
        if (again.host !== known.host) throw new Error(`${one}: ${known.host}, then ${again.host}`);
        if (!/^[a-zA-Z0-9.-]+$/.test(one)) return;
        for (const other of [one.toUpperCase(), `${hostName(one)}:${port}`]) {
          if (!isSameAuthority(parseAuthority(other, within), known))
            throw new Error(`${other} is not ${one}`);
        }
      },
    ),
    { numRuns: 2_000 },
  );
});

t.test('the namespace comes from the places where a pod has it', async (t) => {
  const token = '/var/run/secrets/kubernetes.io/serviceaccount/namespace';
  const resolver = (search: string) => ({ '/etc/resolv.conf': `nameserver 10.96.0.10\nsearch ${search}\n` });
  const own = { namespace: '', clusterDomain: '' };
  const inPod = resolver('Tools.svc.k8s.corp svc.k8s.corp k8s.corp corp.example');
  const scopeOf = (files: Record<string, string>, env: Record<string, string> = {}, settings = own) =>
    nameScopeOf(settings, { env, read: (path) => files[path] });

  t.strictSame(scopeOf({}), NO_SCOPE);
  t.strictSame(scopeOf(inPod), { namespace: 'tools', clusterDomain: 'k8s.corp' });
  t.strictSame(scopeOf({ ...inPod, [token]: 'mounted\n' }), {
    namespace: 'mounted',
    clusterDomain: 'k8s.corp',
  });
  t.strictSame(scopeOf({ ...inPod, [token]: 'mounted' }, { POD_NAMESPACE: 'agents' }), {
    namespace: 'agents',
    clusterDomain: 'k8s.corp',
  });
  t.strictSame(
    scopeOf(inPod, { POD_NAMESPACE: 'agents' }, { namespace: 'said', clusterDomain: 'said.local' }),
    {
      namespace: 'said',
      clusterDomain: 'said.local',
    },
  );
  t.strictSame(scopeOf(inPod, { POD_NAMESPACE: '' }), { namespace: 'tools', clusterDomain: 'k8s.corp' });
  for (const search of ['corp.example', 'a.svc.example.com', 'svc.cluster.local cluster.local', ''])
    t.strictSame(scopeOf(resolver(search)), NO_SCOPE, search);
});
