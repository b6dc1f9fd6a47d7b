// Edits of YAML texts: what changes means what it should, and nothing else changes by a byte.

import t from 'tap';
import { Document, parseDocument, visit } from 'yaml';
import fc from '../../../scripts/harness/properties.ts';
import { seededRandom } from '../../../test/support/seeded-random.ts';
import type { Json, JsonObject } from './json.ts';
import { injectManifests } from './manifests.ts';
import { editText } from './text-edit.ts';

const options = { schema: 'yaml-1.1', merge: true, keepSourceTokens: true, logLevel: 'silent' } as const;

const settings = { image: 'o:1', interceptImage: 'i:1', pullPolicy: undefined, otlpEndpoint: undefined };

function edited(text: string, after: Json): string | undefined {
  const document = parseDocument(text, options);
  return editText(text, document, document.toJS() as Json, after);
}

t.test('every other byte of a text stays: quotes, flow style, comments, anchors, line ends', async (t) => {
  const text = [
    '# on top',
    'mode: "0o17" # octal to some',
    "single: 'no'",
    'flow: {a: b,  c:   "d"}   # spaces',
    'list: [1,2 , 3]',
    'block:',
    '    deep:   &anchor',
    '    -   name: one # the first',
    '        value:   x',
    '',
    '    # before two',
    '    -   name: two',
    '    alias: *anchor',
    'long: >-',
    '  folded',
    '  text',
    '# at the end',
    '',
  ].join('\r\n');
  const before = parseDocument(text, options).toJS();
  const change = (more: (value: typeof before) => void) => {
    const after = JSON.parse(JSON.stringify(before));
    more(after);
    return edited(text, after);
  };
  t.equal(
    change(() => {}),
    text,
  );
  t.equal(
    change((value) => void (value.flow.e = 1)),
    text.replace('"d"}', '"d", e: 1}'),
  );
  t.equal(
    change((value) => void delete value.flow.a),
    text.replace('a: b,  ', ''),
  );
  t.equal(
    change((value) => void value.list.push('4')),
    text.replace(', 3]', ', 3, "4"]'),
  );
  t.equal(
    change((value) => void (value.mode = '0o18')),
    text.replace('0o17', '0o18'),
  );
  t.equal(
    change((value) => void (value.single = "it's")),
    text.replace("'no'", "'it''s'"),
  );
  t.equal(edited('a: { b: {x: 1} }\n', { a: { c: [2], d: 3 } }), 'a: { c: [ 2 ], d: 3 }\n');
  t.equal(
    change((value) => void (value.more = { x: ['on'] })),
    text.replace('  text\r\n', '  text\r\nmore:\r\n  x:\r\n  - "on"\r\n'),
  );
  const grown = change((value) => {
    value.block.deep.splice(1, 0, { name: 'between' });
    value.block.alias = structuredClone(value.block.deep);
  });
  t.equal(
    grown,
    text.replace('\r\n    # before two', '\r\n    - name: between\r\n    # before two'),
    'the alias follows',
  );
  const apart = change((value) => void (value.block.deep[0].value = 'z'));
  t.match(apart, /value: {3}z\r\n/);
  t.match(
    apart,
    /alias: \[ \{ name: one, value: x \}, \{ name: two \} \]\r\n/,
    'the alias had another value',
  );
  t.equal(edited('- a: 1\n  # kept\n  b: 2\n', [{ b: 2 }]), '- \n  # kept\n  b: 2\n');
  t.equal(
    edited('a:\n  b: 1', { a: { b: 1, c: 2 } }),
    'a:\n  b: 1\n  c: 2',
    'a text without a line end keeps none',
  );
  t.equal(
    edited('{"a": {"b": []}}', { a: { b: ['x'], c: null } }),
    '{"a": {"b": ["x"], "c": null}}',
    'JSON stays JSON',
  );
});

/** Random documents in random styles, and random changes as injection makes them. */
const key = fc.constantFrom('a', 'b', 'name', 'on', 'x-y', '0o17', 'key with space', '"quoted"');
const scalar = fc.oneof(
  fc.constantFrom(
    'on',
    'no',
    '0o17',
    '0644',
    '1:30',
    '',
    'a: b',
    '# x',
    "it's",
    '- x',
    'text',
    '{{ .Values.x }}',
  ),
  fc.integer(),
  fc.boolean(),
  fc.constant(null),
);
const { value: anyValue } = fc.letrec<{ value: Json }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    scalar,
    fc.array(tie('value'), { maxLength: 3 }),
    fc.dictionary(key, tie('value'), { maxKeys: 4, noNullPrototype: true }),
  ) as fc.Arbitrary<Json>,
}));

function changed(value: Json, random: () => number): Json {
  if (Array.isArray(value)) {
    const items = value.map((item: Json) => changed(item, random));
    if (random() < 0.3)
      items.splice(Math.floor(random() * (items.length + 1)), 0, { name: 'new', on: ['yes', 1] });
    return items;
  }
  if (typeof value !== 'object' || value === null) return random() < 0.2 ? 'other: "text"' : value;
  const gone = random() < 0.2 ? Math.floor(random() * Object.keys(value).length) : -1;
  const entries = Object.entries(value as JsonObject).flatMap(([name, inner], index): [string, Json][] =>
    index === gone ? [] : [[name, changed(inner, random)]],
  );
  if (random() < 0.3) entries.push(['added', random() < 0.5 ? 'x' : { deep: [{ a: 'no' }] }]);
  return Object.fromEntries(entries);
}

t.test('an edit means the change, whatever the style of the text, or there is none', async (t) => {
  let edits = 0;
  let runs = 0;
  fc.assert(
    fc.property(
      fc.dictionary(key, anyValue, { minKeys: 1, maxKeys: 4, noNullPrototype: true }),
      fc.nat(),
      fc.boolean(),
      (value, start, crlf) => {
        runs++;
        const random = seededRandom(start);
        const document = new Document(value, { schema: 'yaml-1.1' });
        visit(document, {
          Collection(_, node) {
            node.flow = random() < 0.3;
          },
          Scalar(_, node) {
            if (random() < 0.3 && typeof node.value === 'string')
              node.type = random() < 0.5 ? 'QUOTE_DOUBLE' : 'QUOTE_SINGLE';
            if (random() < 0.2) node.comment = ' kept';
          },
          Pair(_, pair) {
            if (random() < 0.2) (pair.key as { commentBefore?: string }).commentBefore = ' above';
          },
        });
        const written = document.toString({ indentSeq: random() < 0.5, lineWidth: 0 });
        const text = crlf ? written.replaceAll('\n', '\r\n') : written;
        const before = parseDocument(text, options);
        if (before.errors.length > 0) return;
        const after = changed(before.toJS() as Json, random);
        const result = editText(text, before, before.toJS() as Json, after);
        if (result === undefined) return;
        const again = parseDocument(result, options);
        const means =
          again.errors.length === 0 && JSON.stringify(sorted(again.toJS())) === JSON.stringify(sorted(after));
        // A change that an edit can't say is found by the comparison, and the document is written anew.
        if (means) edits++;
        if (crlf && /[^\r]\n/.test(result)) throw new Error(`a line end changed: ${JSON.stringify(result)}`);
      },
    ),
    { numRuns: 1_000, seed: 7 },
  );
  t.ok(edits > runs * 0.8, `${edits} of ${runs} edits mean the change`);
});

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  return Object.entries(value)
    .map(([name, inner]) => [name, sorted(inner)] as const)
    .sort(([a], [b]) => (a < b ? -1 : 1));
}

t.test('a document written anew keeps its line ends', async (t) => {
  // The list behind the alias loses nothing, but the block text in its key can't be replaced in place.
  const text =
    'kind: Pod\r\napiVersion: v1\r\nspec:\r\n  containers:\r\n  - name: a\r\n    env:\r\n    - name: X_AGENT_ADDR\r\n      value: |-\r\n        x:1\r\n';
  const { text: result } = injectManifests(text, { settings, version: '1' });
  t.match(result, /X_AGENT_ADDR\r\n {6,}value: 127\.0\.0\.1:15101\r\n/);
  t.notMatch(result, /[^\r]\n/);
});

t.test('an error names the right line, and quotes nothing of the text, which may hold a secret', (t) => {
  const before = 'kind: ConfigMap\napiVersion: v1\n---\n# a comment\nkind: Pod\nspec:\n';
  const secret = 's3cr3t';
  const deep = 5_000;
  for (const [line, offset, problem] of [
    [`  env: [{name: OPENAI_API_KEY, value: *${secret}}]`, 0, /an alias .* has no anchor/],
    [`  x: &${secret} {name: p, x: *${secret}}`, 0, /an alias .* is inside its own anchor/],
    [`  x: &a [&${secret} {y: 1}, {z: *${secret}, w: *later${secret}}]`, 0, /has no anchor/],
    [`  x: @${secret}`, 0, /begins with a character that YAML reserves/],
    [`  x: "\\${secret}"`, 0, /double quotes hold an escape/],
    [`  x: %${secret}: [`, 0, /quote text/],
    [`  ${secret}: 1\n  ${secret}: 2`, 1, /same key twice/],
    [`  x: |${secret}`, 0, /where YAML does not expect it/],
    [`  x: "${secret}" ${secret}`, 0, /where YAML does not expect it/],
    [`  x:\n    <<: ${secret}`, 1, /merge key/],
    [`  x: ${'['.repeat(deep)}${secret}${']'.repeat(deep)}`, 0, /nested too deeply/],
    [`  x: ${'{a: '.repeat(deep)}${secret}`, 0, /nested too deeply/],
    [`  x:\n    ${'- '.repeat(deep)}${secret}`, 1, /nested too deeply/],
    [
      `  a: &a ${'['.repeat(150)}1${']'.repeat(150)}\n  b: &${secret} ${'['.repeat(60)}*a${']'.repeat(60)}`,
      1,
      /nested too deeply/,
    ],
  ] as const) {
    try {
      injectManifests(`${before}${line}\n`, { settings, version: '1' });
      t.fail(`accepted: ${line.slice(0, 60)}`);
    } catch (error) {
      const { message } = error as Error;
      t.match(message, problem, line.slice(0, 60));
      t.match(message, new RegExp(`^line ${7 + offset}: `), line.slice(0, 60));
      t.notMatch(message, /s3cr3t/);
    }
  }
  const shared = `${before}  x: &a {b: &b [1]}\n  y: *a\n  z: [*b, {<<: *a, c: ${'['.repeat(150)}1${']'.repeat(150)}}]\n`;
  t.equal(injectManifests(shared, { settings, version: '1' }).text, shared);
  t.end();
});
