/** Tests the decoder and the encoder on random blocks and lists. */

import t from 'tap';
import fc from '../../../scripts/harness/properties.ts';
import { HpackDecoder } from './decoder.ts';
import { HpackEncoder, literalSize, writeLiteral } from './encoder.ts';
import { HeaderList } from './header-list.ts';

const MAX_LIST_BYTES = 2000;

// Names and values that repeat, collide with table entries, and vary.
const text = (unit: fc.Arbitrary<string>, maxLength: number) => fc.string({ unit, maxLength });
const anyByte = fc.integer({ min: 0, max: 255 }).map((code) => String.fromCharCode(code));
const name = fc.oneof(
  fc.constantFrom(
    ':method',
    ':path',
    ':status',
    'te',
    'content-type',
    'grpc-status',
    'authorization',
    'date',
  ),
  fc.constantFrom('a', 'b', 'x-tenant', 'x-region'),
  text(fc.constantFrom(...'abcdefgh-'), 12),
  text(anyByte, 200),
);
const value = fc.oneof(
  fc.constantFrom('', 'POST', '/', '200', 'trailers', 'application/grpc', '0', 'one', 'two', 'x'.repeat(900)),
  text(anyByte, 20),
  text(anyByte, 400),
);
const list = fc
  .record({
    pairs: fc.array(fc.record({ name, value, never: fc.boolean() }), { maxLength: 12 }),
    shared: fc.boolean(),
  })
  .map(({ pairs, shared }) => {
    const never = pairs.flatMap((pair, ordinal) => (pair.never ? [ordinal] : []));
    const made = new HeaderList(
      pairs.flatMap((pair) => [pair.name, pair.value]),
      never.length > 0 ? never : undefined,
    );
    made.shared = shared;
    return made;
  });
const tableBytes = fc.oneof(fc.constantFrom(0, 31, 32, 100, 4096, 65536), fc.nat(10_000));
const step = fc.oneof(
  { weight: 5, arbitrary: fc.record({ list, times: fc.integer({ min: 1, max: 4 }) }) },
  { weight: 1, arbitrary: fc.record({ tableBytes: fc.array(tableBytes, { minLength: 1, maxLength: 3 }) }) },
);

t.test('lists survive long sequences with changes of the table size', async (t) => {
  const cap = fc.option(tableBytes, { nil: undefined });
  const property = fc.property(cap, fc.array(step, { maxLength: 60 }), (maxTableBytes, steps) => {
    const encoder = new HpackEncoder(maxTableBytes === undefined ? {} : { maxTableBytes });
    const decoder = new HpackDecoder({ maxTableBytes: 65536, maxListBytes: 1 << 20 });
    for (const step of steps) {
      if ('tableBytes' in step) {
        for (const bytes of step.tableBytes) encoder.setPeerTableBytes(bytes);
        continue;
      }
      for (let i = 0; i < step.times; i++) {
        encoder.encode(step.list);
        const { block, blockEnd } = encoder;
        const got = decoder.decode(block, 0, blockEnd);
        if (got === undefined) throw new Error(decoder.error);
        // The encoder marks secrets as never indexed; fields that were marked before must stay so.
        const lost = step.list.neverIndexed?.filter((ordinal) => !got.neverIndexed?.includes(ordinal)) ?? [];
        const same = got.fields.length === step.list.fields.length;
        if (!same || got.fields.some((part, n) => part !== step.list.fields[n]))
          throw new Error('fields differ');
        if (lost.length > 0) throw new Error(`fields ${lost} lost their mark`);
        if (got.listBytes !== step.list.listBytes) throw new Error('sizes differ');
        if (decoder.tableBytes !== encoder.tableBytes) throw new Error('tables differ');
      }
    }
  });
  t.doesNotThrow(() => fc.assert(property, { numRuns: 300 }));
});

t.test('literals that do not change the tables survive', async (t) => {
  const property = fc.property(name, value, fc.nat(5), (name, value, offset) => {
    const out = Buffer.alloc(1200);
    const end = writeLiteral(out, offset, name, value);
    if (end - offset !== literalSize(name, value)) throw new Error('literalSize differs');
    const decoder = new HpackDecoder({ maxTableBytes: 4096, maxListBytes: 4096 });
    const got = decoder.decode(out, offset, end);
    if (got?.fields[0] !== name || got.fields[1] !== value) throw new Error(decoder.error || 'differs');
  });
  t.doesNotThrow(() => fc.assert(property, { numRuns: 500 }));
});

/** Decodes a block, and checks what must hold for any input. */
function decodeAnything(decoder: HpackDecoder, block: Buffer): HeaderList | undefined {
  const got = decoder.decode(block, 0, block.length);
  if (decoder.tableBytes > 4096) throw new Error(`the table holds ${decoder.tableBytes} bytes`);
  if (got === undefined) {
    if (decoder.error === '') throw new Error('no reason given');
    return undefined;
  }
  let bytes = 0;
  for (const part of got.fields) bytes += part.length + 16;
  if (bytes > MAX_LIST_BYTES) throw new Error(`a list of ${bytes} bytes`);
  if (got.oversize !== got.listBytes > MAX_LIST_BYTES) throw new Error('oversize is wrong');
  if (!got.oversize && bytes !== got.listBytes) throw new Error('listBytes is wrong');
  return got;
}

t.test('random bytes decode or are refused', async (t) => {
  // Bytes that begin a field are more frequent than by chance.
  const byte = fc.oneof(
    fc.nat(255),
    fc.constantFrom(0, 0x0f, 0x10, 0x20, 0x3f, 0x40, 0x7f, 0x80, 0xbe, 0xff),
  );
  const block = fc.array(byte, { maxLength: 60 }).map((bytes) => Buffer.from(bytes));
  let decoded = 0;
  const property = fc.property(fc.array(block, { maxLength: 20 }), (blocks) => {
    const decoder = new HpackDecoder({ maxTableBytes: 4096, maxListBytes: MAX_LIST_BYTES });
    for (const block of blocks) if (decodeAnything(decoder, block)) decoded++;
  });
  t.doesNotThrow(() => fc.assert(property, { numRuns: 2000 }));
  t.ok(decoded > 100, 'some of them mean something');
});

t.test('mutated blocks decode or are refused', async (t) => {
  let seed = 20_260_801;
  /** xorshift32: the same mutations in each run. */
  const random = (below: number) => {
    seed ^= seed << 13;
    seed ^= seed >>> 17;
    seed ^= seed << 5;
    return (seed >>> 0) % below;
  };
  const encoder = new HpackEncoder();
  const good = Array.from({ length: 200 }, (_, n) => {
    encoder.encode(
      new HeaderList([':method', 'POST', 'x-nth', `${n % 7}`, 'te', 'trailers', `x-${n % 5}`, 'v'.repeat(n)]),
    );
    return Buffer.from(encoder.block.subarray(0, encoder.blockEnd));
  });
  // Huffman-coded strings, for the decoder's other half (RFC 7541 C.4 and C.6)
  good.push(Buffer.from('828684418cf1e3c2e5f23a6ba0ab90f4ff408825a849e95ba97d7f8925a849e95bb8e8b4bf', 'hex'));
  good.push(Buffer.from('488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff', 'hex'));
  const mutate = (block: Buffer): Buffer => {
    const at = random(block.length + 1);
    const byte = Buffer.of(random(256));
    switch (random(4)) {
      case 0:
        return Buffer.concat([block.subarray(0, at), byte, block.subarray(at + 1)]);
      case 1:
        return Buffer.concat([block.subarray(0, at), byte, block.subarray(at)]);
      case 2:
        return block.subarray(0, at);
      default:
        return block.map((value, n) => (n === at ? value ^ (1 << random(8)) : value)) as Buffer;
    }
  };
  let [decoded, refused] = [0, 0];
  for (let round = 0; round < 3000; round++) {
    const decoder = new HpackDecoder({ maxTableBytes: 4096, maxListBytes: MAX_LIST_BYTES });
    for (const block of good) {
      const list = decodeAnything(decoder, random(16) === 0 ? mutate(mutate(block)) : block);
      if (list === undefined) {
        refused++;
        break;
      }
      decoded++;
    }
  }
  t.ok(decoded > 10_000 && refused > 1000, `${decoded} decoded, ${refused} refused`);
});

t.test('a small block that stands for a large list is bounded', async (t) => {
  const decoder = new HpackDecoder({ maxTableBytes: 4096, maxListBytes: 65536 });
  const insert = Buffer.concat([Buffer.from('4001617fa11e', 'hex'), Buffer.alloc(4000, 0x62)]);
  t.equal(decoder.decode(insert, 0, insert.length)?.fields[1]?.length, 4000);
  const block = Buffer.alloc(16_384, 0xbe);
  const got = decoder.decode(block, 0, block.length);
  t.equal(got?.oversize, true);
  t.equal(got?.listBytes, 16_384 * 4033);
  t.equal(got?.fields.length, 2 * Math.floor(65536 / 4033), 'no more is kept than the limit lets through');
});

/** Decodes a block in these parts, and keeps undecoded bytes for the next part. */
function decodeInParts(decoder: HpackDecoder, parts: readonly Buffer[]): HeaderList | undefined {
  decoder.begin();
  let rest = Buffer.alloc(0);
  for (const part of parts) {
    const bytes = Buffer.concat([rest, part]);
    const used = decoder.more(bytes, 0, bytes.length);
    if (used < 0) return undefined;
    rest = bytes.subarray(used);
  }
  return decoder.finish(rest.length);
}

function cutAt(block: Buffer, cuts: readonly number[]): Buffer[] {
  const ends = [...cuts.map((cut) => cut % (block.length + 1)), block.length].sort((a, b) => a - b);
  return ends.map((end, n) => block.subarray(n === 0 ? 0 : ends[n - 1], end));
}

t.test('a block in parts decodes as the whole block does, wherever it is cut', async (t) => {
  const kept = new Set(['grpc-status', 'date']);
  const limits = { maxTableBytes: 65536, maxListBytes: MAX_LIST_BYTES, kept };
  const blocks = fc.array(
    fc.record({
      list,
      sizes: fc.array(tableBytes, { maxLength: 2 }),
      cuts: fc.array(fc.nat(3_000), { maxLength: 9 }),
    }),
    { maxLength: 12 },
  );
  const property = fc.property(blocks, (steps) => {
    const encoder = new HpackEncoder();
    const whole = new HpackDecoder(limits);
    const parts = new HpackDecoder(limits);
    for (const { list, sizes, cuts } of steps) {
      for (const bytes of sizes) encoder.setPeerTableBytes(Math.min(bytes, 65536));
      encoder.encode(list);
      const block = Buffer.from(encoder.block.subarray(0, encoder.blockEnd));
      const expected = whole.decode(block, 0, block.length);
      const got = decodeInParts(parts, cutAt(block, cuts));
      if (expected === undefined || got === undefined) throw new Error(whole.error || parts.error);
      if (JSON.stringify(got.fields) !== JSON.stringify(expected.fields)) throw new Error('fields differ');
      if (JSON.stringify(got.neverIndexed) !== JSON.stringify(expected.neverIndexed))
        throw new Error('marks differ');
      if (got.listBytes !== expected.listBytes || got.oversize !== expected.oversize)
        throw new Error('sizes differ');
      if (parts.tableBytes !== whole.tableBytes) throw new Error('tables differ');
    }
  });
  t.doesNotThrow(() => fc.assert(property, { numRuns: 400 }));

  const random = fc.property(
    fc.array(fc.nat(255), { maxLength: 80 }),
    fc.array(fc.nat(80), { maxLength: 6 }),
    (bytes, cuts) => {
      const block = Buffer.from(bytes);
      const whole = new HpackDecoder(limits);
      const parts = new HpackDecoder(limits);
      const expected = whole.decode(block, 0, block.length);
      const got = decodeInParts(parts, cutAt(block, cuts));
      if (JSON.stringify(got?.fields) !== JSON.stringify(expected?.fields)) throw new Error('fields differ');
      if (got === undefined && parts.error === '') throw new Error('no reason given');
    },
  );
  t.doesNotThrow(() => fc.assert(random, { numRuns: 3_000 }));
});

t.test('the decoder keeps only the beginning of a string above all limits', async (t) => {
  const kept = new Set(['grpc-status', 'grpc-message']);
  const length = (prefix: number, most: number, value: number): Buffer => {
    const bytes = [prefix | most];
    let rest = value - most;
    for (; rest >= 128; rest >>>= 7) bytes.push((rest & 127) | 128);
    return Buffer.from([...bytes, rest]);
  };
  const named = (name: string): Buffer => Buffer.from([0x40, name.length, ...Buffer.from(name)]);
  const status = Buffer.concat([Buffer.from([0, 11]), Buffer.from('grpc-status'), Buffer.from([1, 0x35])]);
  for (const huffman of [false, true]) {
    const decoder = new HpackDecoder({ maxTableBytes: 4096, maxListBytes: 1_000, kept });
    const short = Buffer.concat([named('x-a'), Buffer.from([1, 0x62])]);
    t.strictSame(decoder.decode(short, 0, short.length)?.fields, ['x-a', 'b']);
    t.equal(decoder.tableBytes, 36);
    const size = 400_000;
    // Huffman's code of eight times a letter a.
    const value = huffman
      ? Buffer.concat([length(0x80, 127, (size * 5) / 8), Buffer.from('18c6318c63'.repeat(size / 8), 'hex')])
      : Buffer.concat([length(0, 127, size), Buffer.alloc(size, 0x61)]);
    const block = Buffer.concat([named('grpc-message'), value, status]);
    decoder.begin();
    let rest = Buffer.alloc(0);
    let held = 0;
    for (let at = 0; at < block.length; at += 4_000) {
      const bytes = Buffer.concat([rest, block.subarray(at, at + 4_000)]);
      const used = decoder.more(bytes, 0, bytes.length);
      t.ok(used >= 0, decoder.error);
      rest = bytes.subarray(used);
      held = Math.max(held, rest.length);
    }
    const list = decoder.finish(rest.length);
    t.ok(held < 4 * 4_096 + 4_000, `${held} bytes were held`);
    t.equal(list?.oversize, true);
    t.ok(list!.listBytes > 200_000, `${list?.listBytes}`);
    t.strictSame(list?.fields, ['grpc-message', 'a'.repeat(4_096), 'grpc-status', '5'], 'what is kept');
    t.equal(decoder.tableBytes, 0, 'an entry larger than the table has emptied it');
    t.strictSame(decoder.decode(short, 0, short.length)?.fields, ['x-a', 'b'], 'and all goes on');
  }
  const decoder = new HpackDecoder({ maxTableBytes: 4096, maxListBytes: 1_000 });
  decoder.begin();
  const name = Buffer.concat([Buffer.from([0x40]), length(0, 127, 5_000)]);
  t.equal(decoder.more(name, 0, name.length), -1);
  t.match(decoder.error, 'a field name is too long');
  decoder.begin();
  const cut = Buffer.concat([named('x-a'), length(0, 127, 8_000), Buffer.alloc(5_000)]);
  t.equal(decoder.more(cut, 0, cut.length), cut.length);
  t.equal(decoder.finish(0), undefined, 'the rest of a string is missing');
});
