// Compressed messages: round trips, bounds and random bytes.
import { createHash } from 'node:crypto';
import {
  brotliCompressSync,
  constants,
  deflateRawSync,
  deflateSync,
  gzipSync,
  zstdCompressSync,
} from 'node:zlib';
import t from 'tap';
import fc from '../../scripts/harness/properties.ts';
import { encodingBit, inflateMessage, READABLE_ENCODINGS } from './message-encoding.ts';

const compress: Record<string, (bytes: Buffer) => Buffer> = {
  gzip: gzipSync,
  deflate: deflateSync,
  // The default is tuned for files that are compressed once.
  br: (bytes) => brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 5 } }),
  zstd: zstdCompressSync,
};
const encodings = Object.entries(compress);
const LIMIT = 65_536;
const ZSTD_LIMIT = 262_144;
const MEBIBYTE = 1_048_576;

/** Text without repetitions, which compresses to about half of its length. */
function prose(length: number): Buffer {
  const bytes = Buffer.from(createHash('shake256', { outputLength: length }).update('prose').digest());
  for (let i = 0; i < length; i++) bytes[i] = 97 + (bytes[i]! % 16);
  return bytes;
}

t.strictSame([...READABLE_ENCODINGS].sort(), Object.keys(compress).sort());
t.strictSame(
  ['gzip', 'deflate', 'br', 'zstd', 'identity', 'snappy'].map(encodingBit),
  [1, 2, 4, 8, 0, 0],
  'what sidecars of other versions know them by',
);

t.test('a compressed message inflates to its bytes', async (t) => {
  for (const [name, pack] of encodings) {
    for (const length of [0, 1, 300, LIMIT - 1, LIMIT]) {
      const bytes = prose(length);
      const read = inflateMessage(name, pack(bytes), true, LIMIT);
      if (typeof read === 'string') return t.fail(`${name}, ${length}: ${read}`);
      t.ok(read.bytes.equals(bytes) && read.whole, `${name}: ${length} bytes`);
    }
  }
});

t.test('the beginning of a message above the limit, or of an incomplete one, is readable', async (t) => {
  for (const [name, pack] of encodings) {
    const long = prose(MEBIBYTE);
    const alike = Buffer.alloc(2 * MEBIBYTE, long.subarray(0, 100_000));
    for (const bytes of [prose(ZSTD_LIMIT + 1), long, alike, Buffer.alloc(50 * MEBIBYTE, 'a')]) {
      const packed = pack(bytes);
      // The second block has a few bytes: the search finds it only by luck.
      if (name === 'zstd' && bytes === alike) continue;
      // A few bytes of brotli can stand for any number.
      if (name === 'br' && packed.length < 100) {
        t.equal(inflateMessage(name, packed, true, LIMIT), 'too_large', name);
        continue;
      }
      const read = inflateMessage(name, packed, true, LIMIT);
      if (typeof read === 'string') return t.fail(`${name}, ${bytes.length}: ${read}`);
      t.notOk(read.whole, name);
      t.ok(
        read.bytes.length > 5_000 && read.bytes.length <= (name === 'zstd' ? ZSTD_LIMIT : LIMIT),
        `${name}: ${read.bytes.length} bytes`,
      );
      t.ok(bytes.subarray(0, read.bytes.length).equals(read.bytes), `${name}: the first ones`);
    }
    const packed = pack(long);
    const here = packed.subarray(0, packed.length >> 1);
    const part = inflateMessage(name, here, false, LIMIT);
    if (typeof part === 'string') return t.fail(`${name}: ${part}`);
    t.notOk(part.whole);
    t.ok(long.subarray(0, part.bytes.length).equals(part.bytes) && part.bytes.length > 5_000, name);
    t.equal(inflateMessage(name, here.subarray(0, 10), false, LIMIT), 'unfinished', `${name}: ten bytes`);
    t.equal(inflateMessage(name, here, true, MEBIBYTE), 'corrupt', `${name}: a message that was cut is none`);
  }
});

t.test('bytes in another format than the declared one are refused', async (t) => {
  const text = prose(500);
  for (const [name, pack] of encodings) {
    const packed = pack(text);
    t.equal(inflateMessage(name, text, true, LIMIT), 'corrupt', `${name}: plain text`);
    t.equal(inflateMessage(name, Buffer.alloc(0), true, LIMIT), 'corrupt', `${name}: nothing`);
    const followed = inflateMessage(name, Buffer.concat([packed, Buffer.from('more')]), true, LIMIT);
    t.ok(
      followed === 'corrupt' || (typeof followed !== 'string' && !followed.whole),
      `${name}: more behind it`,
    );
    const doubled = inflateMessage(name, Buffer.concat([packed, packed]), true, LIMIT);
    if (typeof doubled === 'string') return t.fail(`${name}: ${doubled}`);
    t.equal(doubled.whole, name === 'gzip', `${name}: only gzip has members, and all of them are read`);
    t.equal(doubled.bytes.length, name === 'gzip' ? 1_000 : 500);
  }
  t.equal(inflateMessage('deflate', deflateRawSync(text), true, LIMIT), 'corrupt', "without zlib's head");
  for (const name of ['', 'identity', 'snappy', 'GZIP', 'constructor', '__proto__'])
    t.equal(inflateMessage(name, gzipSync(text), true, LIMIT), 'unsupported', name);
  const wide = zstdCompressSync(Buffer.alloc(200 * MEBIBYTE), {
    params: { [constants.ZSTD_c_windowLog]: 27, [constants.ZSTD_c_contentSizeFlag]: 0 },
  });
  t.equal(inflateMessage('zstd', wide, true, LIMIT), 'corrupt', 'a window of 128 MiB is not made');
});

t.test('any bytes inflate or are refused', async () => {
  const cut = fc.tuple(
    fc.constantFrom(...encodings),
    fc.uint8Array({ maxLength: 300 }),
    fc.nat(400),
    fc.nat(255),
  );
  fc.assert(
    fc.property(cut, fc.boolean(), ([[name, pack], bytes, at, value], complete) => {
      const packed = pack(Buffer.from(bytes));
      packed[at % packed.length] = value;
      const read = inflateMessage(name, packed, complete, 200);
      if (typeof read === 'string') return;
      if (read.whole && read.bytes.length > 200)
        throw new Error(`${read.bytes.length} bytes are above the limit`);
    }),
    { numRuns: 2_000 },
  );
});
