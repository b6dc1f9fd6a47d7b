// The identities in a certificate, and what an allow list accepts.
import t from 'tap';
import { AllowList, complaintAboutIdentity, identitiesOf } from './identity.ts';

t.test('the names of a certificate are its identities', async (t) => {
  const of = (subjectAltName: string | undefined) => identitiesOf({ subjectAltName: subjectAltName! });
  t.strictSame(of(undefined), []);
  t.strictSame(of('DNS:A.example, IP Address:127.0.0.1, URI:spiffe://a/b'), ['spiffe://a/b', 'a.example']);
  t.strictSame(of('URI:https://x/y, URI:spiffe://a/b'), ['spiffe://a/b', 'https://x/y'], 'SPIFFE first');
  const hidden = of('DNS:"a.example, URI:spiffe://a/admin", DNS:b.example');
  t.strictSame(hidden, ['a.example, uri:spiffe://a/admin', 'b.example'], 'a name within a name is none');
  t.strictSame(of(String.raw`URI:"x\", URI:spiffe://a/admin"`), ['x", URI:spiffe://a/admin']);
  t.equal(of(Array.from({ length: 500 }, (_, i) => `DNS:n${i}.example`).join(', ')).length, 64, 'bounded');
});

t.test('a pattern matches whole labels and segments', async (t) => {
  const cases: [pattern: string, identity: string, taken: boolean][] = [
    ['spiffe://a/ns/x/sa/y', 'spiffe://a/ns/x/sa/y', true],
    ['spiffe://a/ns/x/sa/y', 'spiffe://a/ns/x/sa/Y', false],
    ['spiffe://a/ns/x/sa/y', 'spiffe://b/ns/x/sa/y', false],
    ['spiffe://a/ns/*/sa/y', 'spiffe://a/ns/x/sa/y', true],
    ['spiffe://a/ns/*/sa/y', 'spiffe://a/ns/x/z/sa/y', false],
    ['spiffe://a/ns/*', 'spiffe://a/ns/', false],
    ['spiffe://a/ns/*', 'spiffe://a/ns/x/y', false],
    ['spiffe://a/ns/**', 'spiffe://a/ns/x/y', true],
    ['spiffe://a/ns/**', 'spiffe://a/ns', false],
    ['spiffe://a/ns/**', 'spiffe://a/nsx/y', false],
    ['spiffe://a/ns/**', 'spiffe://a/ns/../admin', false],
    ['spiffe://a/**', 'https://a/x', false],
    ['*.agents.svc', 'a.agents.svc', true],
    ['*.Agents.svc', 'a.agents.svc', true],
    ['*.agents.svc', 'b.a.agents.svc', false],
    ['*.agents.svc', 'agents.svc', false],
    ['*.agents.svc', '.agents.svc', false],
    ['*.agents.svc', 'spiffe://a.agents.svc', false],
    ...['\0', ' ', '\t', '\n', '\x7f', '\u00a0', '"', '/', '?'].flatMap(
      (odd): [string, string, boolean][] => [
        ['*.agents.svc', `a${odd}.agents.svc`, false],
        ['spiffe://a/ns/*/sa/y', `spiffe://a/ns/x${odd}x/sa/y`, false],
      ],
    ),
    ...['\0', ' ', '#', '?'].map((odd): [string, string, boolean] => [
      'spiffe://a/ns/**',
      `spiffe://a/ns/x/y${odd}`,
      false,
    ]),
    ['*.agents.svc', 'a_b-1.agents.svc', true],
    ['spiffe://a/ns/*', 'spiffe://a/ns/a.b_c-1~%20', true],
    ['a.example', 'a.example', true],
    ['a.example', 'b.example', false],
  ];
  for (const [pattern, identity, taken] of cases) {
    t.equal(complaintAboutIdentity(pattern), undefined, `${pattern} is a pattern`);
    t.equal(new AllowList([pattern]).match([identity]) !== undefined, taken, `${pattern} and ${identity}`);
  }
  t.equal(new AllowList(['x.example', 'spiffe://a/*']).match(['q.example', 'spiffe://a/b']), 'spiffe://a/b');
  t.equal(new AllowList([]).empty, true);
});

t.test('a wrong pattern is refused with a reason', async (t) => {
  for (const wrong of [
    '*',
    '*.com',
    'a b',
    'a..b',
    '*.*.example',
    'a.*.example',
    'spiffe://',
    'spiffe://*/a',
    'spiffe://a/b*',
    'spiffe://a/**/b',
    'a,b',
    '-a.example',
    'x"y',
  ])
    t.type(complaintAboutIdentity(wrong), 'string', wrong);
});
