// Large requests are read as they come: what is found, however they are cut, and what is no JSON.

import t from 'tap';
import fc from '../../../scripts/harness/properties.ts';
import { TURN_BYTES, TurnShare } from '../limits/turn-share.ts';
import { type Body, BodyParts, bodyOf, viewsOf } from '../shared/body.ts';
import { withTopLevel } from './json-edit.ts';
import { JsonScan } from './json-scan.ts';

const WANTED = new Set(['model', 'stream', 'n"', 'é\\']);
const PARTS = new Set(['image_url', 'file']);

/** The text in pieces of these sizes, one after the other. */
function pieces(text: string, sizes: readonly number[]): Buffer[] {
  const bytes = Buffer.from(text);
  const cut: Buffer[] = [];
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const size = sizes[i % sizes.length] ?? bytes.length;
    cut.push(bytes.subarray(at, at + size));
    at += size;
  }
  return cut;
}

function scanOf(text: string, sizes: readonly number[] = []): JsonScan {
  const scan = new JsonScan(WANTED, PARTS);
  for (const piece of pieces(text, sizes)) scan.push(piece);
  return scan;
}

const sizes = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 5 });
const key = fc.oneof(fc.constantFrom(...WANTED, 'type'), fc.string({ unit: 'binary' }));
const text = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.constantFrom('image_url', '"', '\\', '\\"', '{"model":1}', `${'\\'.repeat(41)}"`, 'é'.repeat(50)),
);
const value = fc.letrec((tie) => ({
  any: fc.oneof(
    { maxDepth: 4 },
    text,
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.constantFrom(true, false, null, -1e300),
    fc.array(tie('any'), { maxLength: 4 }),
    fc.array(fc.tuple(key, tie('any')), { maxLength: 4 }).map((pairs) => Object.fromEntries(pairs)),
  ),
})).any;

t.test('the scan finds what a parser finds, however the text is cut', async () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(key, value), { maxLength: 6 }),
      fc.constantFrom(undefined, 1, '\r\n\t'),
      sizes,
      (pairs, space, cuts) => {
        const object = Object.fromEntries(pairs);
        const json = JSON.stringify(object, null, space);
        const scan = scanOf(json, cuts);
        const bytes = Buffer.from(json);
        const expected = partsOf(object);
        return (
          scan.isWhole &&
          scan.parts === expected.parts &&
          scan.partBytes === expected.bytes &&
          scan.isEmpty === (Object.keys(object).length === 0) &&
          [...WANTED].every((name) => {
            const field = scan.fields.get(name);
            if (!Object.hasOwn(object, name)) return field === undefined;
            const [range] = field!.ranges;
            const found = bytes.toString('utf8', range!.start, range!.end);
            return (
              field!.ranges.length === 1 &&
              JSON.stringify(JSON.parse(found)) === JSON.stringify(object[name]) &&
              (field!.texts[0] === found || (field!.texts[0] === undefined && found.length > 4_000))
            );
          })
        );
      },
    ),
    { numRuns: 1_000 },
  );
});

/** The parts of messages that are no text, as they were counted from the parsed object. */
function partsOf(object: unknown): { parts: number; bytes: number } {
  const sum = { parts: 0, bytes: 0 };
  for (const inner of Object.values(object as object)) {
    if (typeof inner !== 'object' || inner === null) continue;
    const isPart = PARTS.has((inner as { type?: string }).type ?? '');
    const of = isPart ? { parts: 1, bytes: longest(inner) } : partsOf(inner);
    sum.parts += of.parts;
    sum.bytes += of.bytes;
  }
  return sum;
}

function longest(inner: unknown): number {
  if (typeof inner === 'string') return Buffer.byteLength(JSON.stringify(inner)) - 2;
  if (typeof inner !== 'object' || inner === null) return 0;
  return Math.max(0, ...Object.values(inner).map(longest));
}

t.test('a text is whole, broken or unfinished, and a lenient object counts as one', async (t) => {
  for (const whole of [
    '{}',
    '\uFEFF{"a":1}',
    ' \r\n{ "a" : [ ] , "b":{} } \n',
    '{"a":NaN}',
    '{"a":-1.5e+3}',
    `{"a":${'['.repeat(5_000)}${']'.repeat(5_000)}}`,
  ])
    for (const size of [1, 7, 10_000]) t.ok(scanOf(whole, [size]).isWhole, whole.slice(0, 20));
  for (const broken of [
    '[]',
    'null',
    'x',
    '{}x',
    '{}{}',
    '{"a"}',
    '{"a":}',
    '{"a":1,}',
    '{"a":[1,]x}',
    '{"a":[1}',
    '{"a":1]',
    '{a:1}',
    '{,}',
    '{"a":1 2}',
    '{"a" "b"}',
    '{:1}',
    '{"a":@}',
    `{"a":${'['.repeat(70_000)}`,
    `{${'"model":1,'.repeat(200)}"a":1}`,
  ])
    for (const size of [1, 100_000])
      t.match(scanOf(broken, [size]), { isBroken: true, isWhole: false }, broken.slice(0, 20));
  for (const begun of ['', ' ', '{', '{"a', '{"a\\', '{"a":1', '{"a":"', '{"a":[{}', '{"a":1,'])
    t.match(scanOf(begun), { isBroken: false, isWhole: false }, begun);
});

t.test('the edit replaces a value that is too long to be read', async (t) => {
  const long = JSON.stringify({ model: 'x'.repeat(5_000), stream: true });
  const scan = scanOf(long, [100]);
  t.strictSame(scan.fields.get('model')?.texts, [undefined]);
  const parts = new BodyParts();
  for (const piece of pieces(long, [100])) parts.push(piece);
  const changed = withTopLevel(
    parts,
    scan,
    new Map([
      ['model', '"y"'],
      ['n"', '1'],
    ]),
  );
  t.strictSame(JSON.parse(joined(changed)), { 'n"': 1, model: 'y', stream: true });
  t.equal(changed.bytes, joined(changed).length);
  t.equal(joined(parts), long, 'and the body stays what it was, for another upstream');
});

const joined = (body: Body): string => Buffer.concat(body.parts).toString();

t.test('a body keeps its pieces, but joins small ones', async (t) => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 5_000 }), { maxLength: 60 }), (lengths) => {
      const body = new BodyParts();
      const whole: Buffer[] = [];
      lengths.forEach((length, i) => {
        const part = Buffer.alloc(length, i);
        whole.push(part);
        body.push(part);
      });
      const all = Buffer.concat(whole);
      const [from, to] = [Math.floor(all.length / 3), Math.floor(all.length / 2)];
      return (
        all.equals(Buffer.concat(body.parts)) &&
        body.bytes === all.length &&
        all.subarray(from, to).equals(Buffer.concat(viewsOf(body, from, to)))
      );
    }),
  );
  const dribbled = new BodyParts();
  for (let i = 0; i < 200_000; i++) dribbled.push(Buffer.from('x'));
  t.ok(dribbled.parts.length < 10);
  const large = Buffer.alloc(100_000);
  const kept = new BodyParts();
  kept.push(large);
  t.equal(kept.parts[0], large);
  t.strictSame(bodyOf(Buffer.alloc(0)), { parts: [], bytes: 0 });
});

t.test('one turn of the event loop reads a bounded part of large bodies', async (t) => {
  const turns: (() => void)[] = [];
  const turn = new TurnShare((run) => turns.push(run));
  let went = 0;
  const reader = () => () => {
    went++;
  };
  const goOn = reader();
  t.ok(turn.spend(TURN_BYTES - 1, goOn));
  t.notOk(turn.spend(1, goOn));
  t.notOk(turn.spend(1, goOn));
  t.notOk(turn.spend(1, reader()));
  t.equal(turns.length, 1);
  turns.shift()?.();
  t.equal(went, 2, 'and goes on in the next one');
  t.ok(turn.spend(1, goOn));
  t.equal(turns.length, 1);
  t.notOk(turn.spend(TURN_BYTES, goOn));
  for (let i = 1; i < 10; i++) turn.spend(1, reader());
  turns.shift()?.();
  t.equal(went, 6, 'four pieces fit into a turn');
  turns.shift()?.();
  turns.shift()?.();
  t.equal(went, 12);
  t.equal(turns.length, 0);
});
