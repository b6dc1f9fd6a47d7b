// Parsing of trace context, against the rules of W3C and random texts.

import t from 'tap';
import fc from '../../scripts/harness/properties.ts';
import {
  cleanTracestate,
  formatTraceparent,
  NO_CONTEXT,
  parseTraceparent,
  spanIdOf,
  traceIdOf,
  traceparentFromBinary,
} from './trace-context.ts';

const traceId = '4bf92f3577b34da6a3ce929d0e0e4736';
const spanId = '00f067aa0ba902b7';

t.test('a traceparent of version 00 gives its flags and ids', async (t) => {
  const text = `00-${traceId}-${spanId}-01`;
  t.equal(parseTraceparent(text), 1);
  t.equal(traceIdOf(text), traceId);
  t.equal(spanIdOf(text), spanId);
  t.equal(parseTraceparent(`00-${traceId}-${spanId}-00`), 0);
  t.equal(parseTraceparent(`00-${traceId}-${spanId}-03`), 3, 'flags that are not known are kept');
  t.equal(parseTraceparent(`00-${traceId}-${spanId}-ff`), 255);
  t.equal(formatTraceparent(traceId, spanId, true), text);
});

t.test('a malformed header is no context', async (t) => {
  const malformed = {
    empty: '',
    short: `00-${traceId}-${spanId}-0`,
    'longer than version 00 may be': `00-${traceId}-${spanId}-01-`,
    'version ff': `ff-${traceId}-${spanId}-01`,
    'version that is not hexadecimal': `0x-${traceId}-${spanId}-01`,
    'upper-case version': `CC-${traceId}-${spanId}-01`,
    'upper-case trace id': `00-${traceId.toUpperCase()}-${spanId}-01`,
    'upper-case span id': `00-${traceId}-${spanId.toUpperCase()}-01`,
    'upper-case flags': `00-${traceId}-${spanId}-0A`,
    'zero trace id': `00-${'0'.repeat(32)}-${spanId}-01`,
    'zero span id': `00-${traceId}-${'0'.repeat(16)}-01`,
    'flags that are not hexadecimal': `00-${traceId}-${spanId}-0.`,
    'no dashes': `00_${traceId}_${spanId}_01`,
    'a letter above g': `00-${traceId.slice(1)}g-${spanId}-01`,
    'a character beyond latin1': `00-${traceId.slice(1)}\u0161-${spanId}-01`,
    'a future version with something glued to it': `01-${traceId}-${spanId}-01x`,
    'leading white space': ` 00-${traceId}-${spanId}-01`,
  };
  for (const [what, text] of Object.entries(malformed)) t.equal(parseTraceparent(text), NO_CONTEXT, what);
});

t.test('a future version is read by the rules of version 00', async (t) => {
  t.equal(parseTraceparent(`01-${traceId}-${spanId}-01`), 1);
  t.equal(parseTraceparent(`cc-${traceId}-${spanId}-01-what-the-future-will-be-like`), 1);
  t.equal(parseTraceparent(`fe-${traceId}-${spanId}-00-`), 0);
});

t.test('parsing accepts or refuses every text, and an accepted text is a context', async () => {
  const shape = /^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}/;
  const hex = (length: number) =>
    fc.string({ unit: fc.constantFrom(...'0123456789abcdefG-'), minLength: length, maxLength: length });
  const close = fc.tuple(hex(2), hex(32), hex(16), hex(2)).map((parts) => parts.join('-'));
  fc.assert(
    fc.property(fc.oneof(close, fc.string()), (text) => {
      const flags = parseTraceparent(text);
      const wanted = shape.test(text) && (text.length === 55 || (!text.startsWith('00') && text[55] === '-'));
      return flags === (wanted ? Number.parseInt(text.slice(53, 55), 16) : NO_CONTEXT);
    }),
  );
});

t.test('grpc-trace-bin stands for a traceparent', async (t) => {
  const bytes = Buffer.concat([
    Buffer.from([0, 0]),
    Buffer.from(traceId, 'hex'),
    Buffer.from([1]),
    Buffer.from(spanId, 'hex'),
    Buffer.from([2, 1]),
  ]);
  const wanted = `00-${traceId}-${spanId}-01`;
  const text = bytes.toString('base64');
  t.equal(traceparentFromBinary(text), wanted);
  t.equal(traceparentFromBinary(text.replaceAll('=', '')), wanted, 'without padding');
  t.equal(traceparentFromBinary(`${text},AAAA`), wanted, 'of several values the first');
  bytes[28] = 0;
  t.equal(traceparentFromBinary(bytes.toString('base64')), `00-${traceId}-${spanId}-00`);
  const spoiled = (at: number, value: number): string => {
    const copy = Buffer.from(bytes);
    copy[at] = value;
    return copy.toString('base64');
  };
  t.equal(traceparentFromBinary(spoiled(0, 1)), undefined, 'another version');
  t.equal(traceparentFromBinary(spoiled(1, 7)), undefined, 'fields in another order');
  t.equal(traceparentFromBinary(bytes.subarray(0, 28).toString('base64')), undefined, 'cut');
  t.equal(traceparentFromBinary(''), undefined);
  t.equal(traceparentFromBinary('*'.repeat(40)), undefined, 'no base64');
  const zero = Buffer.from(bytes).fill(0, 2, 18);
  t.equal(traceparentFromBinary(zero.toString('base64')), undefined, 'a trace id of zeros');
});

t.test('tracestate is kept, shortened or dropped', async (t) => {
  t.equal(cleanTracestate('congo=t61rcWkgMzE'), 'congo=t61rcWkgMzE');
  t.equal(cleanTracestate('rojo=1, ,congo=2'), 'rojo=1, ,congo=2', 'optional white space and empty members');
  t.equal(cleanTracestate('fw529a3039@dt=FfhxPw'), 'fw529a3039@dt=FfhxPw');
  t.equal(cleanTracestate(''), '');
  for (const text of ['congo', '=x', 'Congo=1', 'a=', 'a=1,a=2', 'a=x=y', 'a=\u00e9', '1@9=x']) {
    t.equal(cleanTracestate(text), '', `${text} is void`);
  }
  const many = Array.from({ length: 33 }, (_, i) => `k${i}=v`).join(',');
  t.equal(cleanTracestate(many), '', 'more than 32 members');
  const long = `a=1,big=${'x'.repeat(200)},b=2,${`c=${'y'.repeat(100)}`},d=${'z'.repeat(120)},e=${'w'.repeat(120)}`;
  t.ok(long.length > 512);
  const short = cleanTracestate(long);
  t.ok(short.length <= 512);
  t.notMatch(short, 'big=', 'the long member goes first');
  t.match(short, /^a=1,b=2,c=y/);
  const evenly = Array.from({ length: 8 }, (_, i) => `k${i}=${'v'.repeat(100)}`).join(',');
  t.equal(cleanTracestate(evenly), evenly.split(',').slice(0, 4).join(','), 'then the last ones');
  t.equal(cleanTracestate('a=1,'.repeat(10_000)), '', 'far too long is not even read');
});
