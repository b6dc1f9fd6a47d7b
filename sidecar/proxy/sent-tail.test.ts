// Whatever a stream sends, its tail has every byte that is on the way, and no more memory than it says.
import t from 'tap';
import fc from '../../scripts/harness/properties.ts';
import { SENT_TAIL_MAX_BYTES, SentTail } from './sent-tail.ts';

class TestRoom {
  taken = 0;
  maxBytes = Number.POSITIVE_INFINITY;

  take(bytes: number): boolean {
    if (this.taken + bytes > this.maxBytes) return false;
    this.taken += bytes;
    return true;
  }

  give(bytes: number): void {
    this.taken -= bytes;
  }
}

function readFrom(tail: SentTail, from: number): Buffer {
  const parts: Buffer[] = [];
  let at = from;
  for (let bytes = tail.read(at); bytes !== undefined; bytes = tail.read(at)) {
    parts.push(bytes);
    at += bytes.length;
  }
  return Buffer.concat(parts);
}

const step = fc.record({
  sizes: fc.array(fc.oneof(fc.integer({ min: 1, max: 60 }), fc.integer({ min: 1, max: 16_384 })), {
    minLength: 1,
    maxLength: 40,
  }),
  /** The part of what is on the way that the reader gives back before. */
  back: fc.oneof(fc.constant(0), fc.constant(1), fc.double({ min: 0, max: 1, noNaN: true })),
});

t.test('a tail has every byte that is on the way', async (t) => {
  let most = 0;
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 60 }), (steps) => {
      const room = new TestRoom();
      const tail = new SentTail(room);
      let all = Buffer.alloc(0);
      let acked = 0;
      for (const { sizes, back } of steps) {
        acked += Math.floor((all.length - acked) * back);
        for (const size of sizes) {
          // As a window allows.
          if (all.length + size - acked > SENT_TAIL_MAX_BYTES) break;
          const written = Buffer.concat([
            Buffer.alloc(3),
            Buffer.alloc(size, all.length % 251),
            Buffer.alloc(3),
          ]);
          all = Buffer.concat([all, written.subarray(3, -3)]);
          if (!tail.add(written, 3, written.length - 3, all.length - acked)) return false;
        }
        if (tail.length !== all.length || tail.start > acked || tail.heldBytes !== room.taken) return false;
        most = Math.max(most, tail.heldBytes);
        for (const from of [tail.start, acked, (acked + all.length) >> 1, all.length])
          if (!readFrom(tail, from).equals(all.subarray(from))) return false;
      }
      tail.drop();
      return room.taken === 0 && tail.heldBytes === 0;
    }),
    { numRuns: 100 },
  );
  t.equal(most, SENT_TAIL_MAX_BYTES, 'a window was filled, and takes no more');
});

t.test('a tail says that no memory is left', async (t) => {
  const room = new TestRoom();
  room.maxBytes = 20_000;
  const tail = new SentTail(room);
  const bytes = Buffer.alloc(10_000);
  t.ok(tail.add(bytes, 0, 10_000, 10_000));
  t.notOk(tail.add(bytes, 0, 10_000, 20_000), 'as the room has no more');
  tail.drop();
  t.equal(room.taken, 0);
  room.maxBytes = 1e9;
  const large = new SentTail(room);
  t.ok(large.add(Buffer.alloc(262_144), 0, 262_144, 262_144));
  t.notOk(large.add(bytes, 0, 1, 262_145), 'as no window has more');
});
