// What a print says of two bodies, where a byte lies in a JSON text, and which of equal requests is which.
import t from 'tap';
import fc from '../../scripts/harness/properties.ts';
import { BodyPrint, differenceOf, type Print } from './record/body-print.ts';
import { jsonPathAt } from './record/json-path.ts';
import { Places } from './run/places.ts';

function printOf(body: Buffer, cuts: readonly number[] = []): Print {
  const print = new BodyPrint();
  let from = 0;
  for (const cut of [...cuts.map((one) => one % (body.length + 1)).sort((a, b) => a - b), body.length]) {
    print.push(body.subarray(from, cut));
    from = cut;
  }
  return print.end();
}

t.test('a print does not depend on the pieces, and a difference lies in its block', async () => {
  const body = fc.uint8Array({ minLength: 1, maxLength: 70_000 }).map((bytes) => Buffer.from(bytes));
  fc.assert(
    fc.property(body, fc.array(fc.nat(), { maxLength: 5 }), fc.nat(), (one, cuts, where) => {
      const whole = printOf(one);
      const pieces = printOf(one, cuts);
      if (!whole.digest.equals(pieces.digest) || differenceOf(whole, pieces) !== undefined) return false;
      const at = where % one.length;
      const other = Buffer.from(one);
      other[at]! ^= 1;
      const difference = differenceOf(whole, printOf(other, cuts))!;
      const longer = differenceOf(whole, printOf(Buffer.concat([one, Buffer.from('x')])))!;
      return (
        difference.fromByte <= at &&
        at < difference.toByte &&
        longer.fromByte <= one.length &&
        one.length <= longer.toByte
      );
    }),
  );
});

t.test('a difference in a prompt of some megabytes is found in its first one', async (t) => {
  const one = Buffer.alloc(3 << 20, 'a');
  const other = Buffer.from(one);
  other[1_000_000] = 0x62;
  t.match(differenceOf(printOf(one), printOf(other)), { fromByte: 999_424, toByte: 1_003_520 });
  other[1_000_000] = 0x61;
  other[2_000_000] = 0x62;
  t.equal(
    differenceOf(printOf(one), printOf(other)),
    undefined,
    'marks end there, and the digest still differs',
  );
});

t.test('a byte has the path of its value, and keys that may be text are left out', async (t) => {
  const value = {
    model: 'm',
    messages: [
      { role: 'system', content: 'be "brief", {please}' },
      { role: 'user', content: [{ type: 'text', text: 'at 12:31:07' }] },
    ],
    metadata: { 'what Ann said': 'no' },
  };
  for (const text of [JSON.stringify(value), JSON.stringify(value, null, 2)]) {
    const pathOf = (part: string): string =>
      jsonPathAt(Buffer.from(text), Buffer.byteLength(text.slice(0, text.indexOf(part))));
    t.equal(pathOf('12:31'), 'messages[1].content[0].text');
    t.equal(pathOf('brief'), 'messages[0].content');
    t.equal(pathOf('no"'), 'metadata.*');
  }
  t.equal(jsonPathAt(Buffer.from('no JSON'), 3), '');
  t.equal(jsonPathAt(Buffer.from(`${'[{"a":'.repeat(40)}1`), 1_000), `${'[0].a'.repeat(6)}…`);
});

t.test('equal requests count from 0 in each run, whatever was lost or refused in between', async (t) => {
  const places = new Places();
  t.equal(places.take('x', ''), 0);
  t.equal(places.take('x', ''), 1, 'another question, asked at the same time');
  t.equal(places.take('y', ''), 0);
  places.giveBack('x', 0);
  t.equal(places.take('x', ''), 0, 'its answer did not arrive');
  t.equal(places.take('x', 'key'), 2);
  t.equal(places.take('x', 'key'), 2, 'the same Idempotency-Key is the same question');
  t.equal(places.take('x', ''), 3);
  for (let more = 0; more < 5_000; more++) places.take(`z${more}`, '');
  t.equal(places.take('new', ''), undefined, 'a run has a bound');
});
