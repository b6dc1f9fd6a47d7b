/** Tests the part of a request that is kept for another attempt, and the memory for it. */

import t from 'tap';
import fc from '../../scripts/harness/properties.ts';
import type { Stream } from '../http2/streams.ts';
import type { Attempt } from './attempt.ts';
import { CallRequest } from './call-request.ts';
import { KeptRequests } from './kept-requests.ts';
import { RequestBuffer } from './request-buffer.ts';

const UNHELD = { held: false, heldBytes: 0 } as Stream;

/** Adds a slice of a larger read, as connections do. */
function addSlice(request: RequestBuffer, bytes: Buffer, readBytes: number): void {
  const read = Buffer.alloc(Math.max(readBytes, bytes.length), 0xee);
  bytes.copy(read, read.length - bytes.length);
  request.add(read, read.length - bytes.length, read.length);
  // The next read into the same memory must not change what is kept.
  if (read.length > bytes.length * 4) read.fill(0xdd);
}

t.test('the request comes out as it came in, however it is cut into frames', async (t) => {
  const slices = fc.array(fc.tuple(fc.uint8Array({ maxLength: 300 }), fc.nat(2_000), fc.boolean()));
  fc.assert(
    fc.property(slices, (slices) => {
      const request = new RequestBuffer();
      for (const [bytes, readBytes, look] of slices) {
        addSlice(request, Buffer.from(bytes), readBytes);
        // An attempt may begin at any time, and more bytes may follow.
        if (look) request.parts;
      }
      const expected = Buffer.concat(slices.map(([bytes]) => Buffer.from(bytes)));
      return Buffer.concat(request.parts).equals(expected) && request.bytes === expected.length;
    }),
  );
  t.pass('for random slices of random reads');
});

t.test('a frame of one byte takes about a byte of memory', async (t) => {
  const request = new RequestBuffer();
  const frame = Buffer.alloc(64, 7);
  for (let i = 0; i < 65_536; i++) request.add(frame, 9, 10);
  t.ok(request.parts.length < 30, `${request.parts.length} parts`);
  t.ok(request.heldBytes <= 65_536 + 16_384 + 8_192, `${request.heldBytes} bytes are held`);
});

t.test('a dropped request cannot be sent again, even if nothing was kept before', async (t) => {
  const request = new RequestBuffer();
  t.equal(request.whole, true);
  request.drop();
  t.equal(request.whole, false);
  request.add(Buffer.from('rest'), 0, 4);
  t.equal(Buffer.concat(request.parts).toString(), 'rest');
  t.equal(request.whole, false);
});

t.test('the first message is found as soon as it has arrived', async (t) => {
  const message = Buffer.from([0, 0, 0, 0, 3, 0x61, 0x62, 0x63, 0, 0, 0, 0, 1, 0x64]);
  for (const size of [1, 2, 3, 7, 8, 14]) {
    const request = new RequestBuffer();
    let found: ReturnType<RequestBuffer['firstMessage']>;
    let came = 0;
    while (found === undefined) {
      addSlice(request, message.subarray(came, came + size), 100);
      came += size;
      found = request.firstMessage(false);
    }
    t.ok(came >= 8 && came - size < 8, `with ${size} bytes a frame`);
    t.equal(found.buffer.toString('latin1', found.start, found.end), 'abc');
  }
});

t.test('the arrived part of a first message can be read', async (t) => {
  const request = new RequestBuffer();
  t.equal(request.firstMessage(true), undefined, 'nothing');
  addSlice(request, Buffer.from([0, 0, 1, 0]), 100);
  t.equal(request.firstMessage(true), undefined, 'less than a prefix');
  addSlice(request, Buffer.from([0, 0x61, 0x62]), 100);
  t.equal(request.firstMessage(false), undefined);
  const found = request.firstMessage(true)!;
  t.equal(found.buffer.toString('latin1', found.start, found.end), 'ab');
  const compressed = new RequestBuffer();
  addSlice(compressed, Buffer.from([1, 0, 0, 0, 2, 0x61, 0x62]), 100);
  t.match(compressed.firstMessage(false), { start: 5, end: 7, flag: 1, whole: true }, 'as it came');
});

t.test('requests reuse blocks, and none sees the bytes of another', async (t) => {
  const slices = fc.array(fc.tuple(fc.nat(15), fc.nat(20_000), fc.boolean()), { maxLength: 60 });
  fc.assert(
    fc.property(slices, (slices) => {
      const requests = Array.from({ length: 16 }, () => ({ buffer: new RequestBuffer(), bytes: 0 }));
      for (const [index, bytes, drops] of slices) {
        const request = requests[index]!;
        if (drops) {
          request.buffer.drop();
          request.bytes = 0;
        }
        request.buffer.add(Buffer.alloc(bytes, index), 0, bytes);
        request.bytes += bytes;
      }
      for (const [index, { buffer, bytes }] of requests.entries()) {
        if (!Buffer.concat(buffer.parts).equals(Buffer.alloc(bytes, index))) return false;
        const copy = new RequestBuffer();
        copy.adopt(buffer.parts);
        buffer.drop();
        requests[(index + 1) % 16]!.buffer.add(Buffer.alloc(0), 0, 0);
        const other = new RequestBuffer();
        other.add(Buffer.alloc(40_000, 0xff), 0, 40_000);
        if (!Buffer.concat(copy.parts).equals(Buffer.alloc(bytes, index))) return false;
        copy.drop();
        other.drop();
      }
      return requests.every(({ buffer }) => buffer.heldBytes === 0);
    }),
  );
  t.pass('whatever comes and goes');
});

t.test('running calls share the memory for the requests that they keep', async (t) => {
  const kept = new KeptRequests(100_000);
  const attempt = { send: () => {} } as unknown as Attempt;
  const begin = (bytes: number): CallRequest => {
    const request = new CallRequest(UNHELD, true, true, kept);
    request.add(Buffer.alloc(bytes), 0, bytes);
    t.equal(request.bytes, bytes, 'bytes that wait for an endpoint are counted elsewhere');
    request.sendTo(attempt, 65_536);
    return request;
  };
  const one = begin(60_000);
  t.equal(one.whole, true);
  const other = begin(60_000);
  t.equal(other.whole, false, 'there is no room for another one');
  t.equal(other.heldBytes, 0);
  const small = begin(30_000);
  t.equal(small.whole, true);
  small.keep(Buffer.alloc(20_000), 0, 20_000, 65_536);
  t.equal(small.whole, false, 'nor for more of one that there was room for');
  one.sendTo(attempt, 65_536);
  t.equal(one.whole, true, 'bytes that are sent again are counted once');
  one.drop();
  one.drop();
  t.equal(kept.bytes, 0);
});
