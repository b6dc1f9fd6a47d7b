// Settings that work and are surely a mistake: each gives a warning with its line, and the same setting in order gives none.
import t from 'tap';
import * as yaml from 'yaml';
import { TestAuthority } from '../../scripts/harness/certificates.ts';
import { loadConfig } from './load.ts';
import { formatOnOneLine } from './problems.ts';

/** The warnings of a file, on one line each. */
function warningsOf(text: string, env: Record<string, string> = {}): string[] {
  const loaded = loadConfig({ path: 'a.yaml', text, overrides: [], yaml, env });
  if ('problems' in loaded) throw new Error(loaded.problems.map(formatOnOneLine).join('\n'));
  return loaded.warnings.map(formatOnOneLine);
}

const clusters = (settings: string) =>
  `outbound: { clusters: { a: { endpoints: ["10.0.0.7:1"], ${settings} } } }\n`;

const llm = (models: string) => `llm:
  upstreams: [{ name: o, kind: openai, url: "https://o.example" }, { name: c, kind: openai, url: "https://c.example" }]
  models:
    ${models}
`;

t.test('each mistake is a warning with its place and its remedy', async (t) => {
  const cases: readonly (readonly [file: string, warning: RegExp])[] = [
    [
      `outbound:
  routes:
    - { match: { path_prefix: /agent. }, cluster: a }
    - { match: { path_prefix: /agent.AgentService/, agent_type: code }, cluster: a }
  clusters: { a: { dns: "a:1" } }
`,
      /^a\.yaml:4:7: outbound\.routes\[1\]: gets no call: routes\[0\] takes each call .*; move it before routes\[0\]/,
    ],
    [
      'outbound: { routes: [{ cluster: a }], clusters: { a: { dns: "a:1" }, b: { dns: "b:1" } } }',
      /outbound\.clusters\.b: gets no call: no entry of outbound\.routes names it/,
    ],
    ['admin: { listen: 0.0.0.0:15000 }', /^a\.yaml:1:10: admin\.listen: is open beyond this machine/],
    [
      'llm: { listen: "[::]:15002", callers: [{ name: a, key_env: KEY }] }',
      /llm\.listen: takes the keys of callers in plain text/,
    ],
    [clusters('hedge: { delay: 1s }'), /hedge: has no effect: no method is idempotent/],
    [
      clusters('max_timeout: 60s, retry: { per_try_timeout: 90s }'),
      /per_try_timeout: has no effect: max_timeout ends each call after 60s/,
    ],
    [
      clusters('limits: { max_concurrent_calls: 10, max_pending_calls: 20 }'),
      /max_pending_calls: has no effect above/,
    ],
    [
      'outbound: { clusters: { a: { endpoints: ["localhost:1", "127.0.0.1:1"] } } }',
      /endpoints\[1\]: is the same endpoint as endpoints\[0\]/,
    ],
    [
      'llm: { upstreams: [{ name: a, url: "https://a.example/v1" }, { name: b, url: "https://a.example/v1/" }] }',
      /upstreams\[1\]: is the same provider as upstreams\[0\]/,
    ],
    [
      llm(
        '- { match: "gpt-*", use: [{ upstream: o }, { upstream: c }] }\n    - { match: gpt-5, use: [{ upstream: o }] }',
      ),
      /^a\.yaml:5:7: llm\.models\[1\]: gets no request: models\[0\] takes each one/,
    ],
    [
      llm('- { match: a, use: [{ upstream: o }] }'),
      /llm\.upstreams\[1\]: gets no request that names a model: no entry of llm\.models has it/,
    ],
    [
      'inbound: { max_timeout: 10s, timeout: 10s, queue: { max_calls: 5, max_wait: 20s } }',
      /inbound\.queue\.max_wait: has no effect/,
    ],
  ];
  for (const [file, warning] of cases) {
    const [first = '', ...more] = warningsOf(file);
    t.match(first, warning);
    t.strictSame(more, [], first);
  }
});

t.test('settings in order, and defaults that another setting makes void, are no mistakes', async (t) => {
  for (const file of [
    '',
    `outbound:
  routes:
    - { match: { authority: a }, cluster: a }
    - { match: { headers: { x: "1" } }, cluster: a }
    - { match: { headers: { y: "2" }, path_prefix: /a }, cluster: a }
    - { cluster: a }
  clusters: { a: { dns: "a:1" } }
`,
    'outbound: { clusters: { a: { dns: "a:1" }, b: { dns: "b:1" } } }',
    'metrics: { listen: 0.0.0.0:15020 }\nadmin: { listen: "unix:/run/admin.sock" }\n',
    clusters(
      'max_timeout: 60s, retry: { per_try_timeout: 20s, idempotent_methods: [/a.B/C] }, hedge: { delay: 1s }',
    ),
    clusters('limits: { max_concurrent_calls: 10 }'),
    'inbound: { max_timeout: 3s, timeout: 3s }',
  ])
    t.strictSame(warningsOf(file), [], file);
});

t.test('what judges endpoints has no effect where calls become tasks', async (t) => {
  const onBus = (more: string) =>
    `bus: { url: "nats://a" }\noutbound: { clusters: { a: { bus: a, ${more} } } }\n`;
  t.match(warningsOf(onBus('retry: { max_attempts: 2 }, timeout: 9s, max_timeout: 3s')), [
    /a\.retry: has no effect: the calls of this cluster become tasks/,
    /a\.timeout: has no effect/,
  ]);
  t.strictSame(warningsOf(onBus('max_timeout: 3s, limits: { max_concurrent_calls: 5 }')), []);
});

t.test('a certificate that has expired, or soon will, is a warning', async (t) => {
  const hour = 3_600_000;
  const at = (hours: number) => Date.now() + hours * hour;
  const authority = await TestAuthority.make('one', { notBeforeMs: at(-99), notAfterMs: at(999) });
  const expired = await authority.issue({ notBeforeMs: at(-20), notAfterMs: at(-1) });
  const soon = await authority.issue({ notBeforeMs: at(-20), notAfterMs: at(1) });
  const fresh = await authority.issue({ notBeforeMs: at(-1), notAfterMs: at(20) });
  const old = await TestAuthority.make('old', { notBeforeMs: at(-99), notAfterMs: at(-1) });
  const folder = t.testdir({
    'ca.pem': authority.ca,
    'old.pem': old.ca,
    expired: { cert: expired.cert, key: expired.key },
    soon: { cert: soon.cert, key: soon.key },
    fresh: { cert: fresh.cert, key: fresh.key },
  });
  const warnings = (name: string, ca = 'ca.pem') =>
    warningsOf(
      clusters(`tls: { ca: ${folder}/${ca}, cert: ${folder}/${name}/cert, key: ${folder}/${name}/key }`),
    );
  t.match(warnings('expired'), [/outbound\.clusters\.a\.tls\.cert: has expired \(20\S+\); renew it/]);
  t.match(warnings('soon'), [/tls\.cert: expires soon \(20/]);
  t.strictSame(warnings('fresh'), []);
  t.match(warnings('fresh', 'old.pem'), [/tls\.ca: has expired/]);
  const inbound = `inbound: { tls: { cert: ${folder}/expired/cert, key: ${folder}/expired/key } }`;
  t.match(warningsOf(inbound), [/inbound\.tls\.cert: has expired/]);
});

t.test(
  'a chain whose places share no API is a warning, and each chain is told with the APIs that it serves',
  async (t) => {
    const text = `llm:
  upstreams:
    - { name: o, kind: openai, url: "https://o.example", api_key_env: KEY }
    - { name: c, kind: anthropic, url: "https://c.example", api_key_env: NONE }
  models: [{ match: smart, use: [{ upstream: o }, { upstream: c }] }]
`;
    const serves = "OpenAI's API with o alone, Anthropic's API with c alone";
    t.match(warningsOf(text), [new RegExp(`llm\\.models\\[0\\]\\.use: serves ${serves}: no request goes`)]);
    const loaded = loadConfig({ path: 'a.yaml', text, overrides: [], yaml, env: { KEY: 'sk-ant-x' } });
    const notices = 'problems' in loaded ? [] : loaded.notices.map(({ message }) => message);
    t.match(notices, [
      /upstreams\[1\]\.api_key_env: the variable NONE is not set, so the sidecar forwards the callers' own/,
      /api_key_env: the value of KEY begins as a key of Anthropic, and the upstream is of kind openai/,
      /^llm\.models\[0\] \(smart\) serves OpenAI's API with o; Anthropic's API with c; Gemini's API with none$/,
    ]);
  },
);
