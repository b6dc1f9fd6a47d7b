// A log has every write that its peer has not received, and no more memory than it says.
import t from 'tap';
import fc from '../../scripts/harness/properties.ts';
import { release, SentLog } from './sent-log.ts';
import { giveMemory, takeMemory } from './spare-memory.ts';

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

const EMPTY = Buffer.alloc(0);
const LIMIT = 262_144;

const write = fc.record({
  bytes: fc.oneof(fc.integer({ min: 1, max: 200 }), fc.integer({ min: 1, max: 150_000 })),
  /** How it comes: in segments and the rest of a slab. */
  segments: fc.integer({ min: 0, max: 3 }),
  /** The part of all bytes that the peer has received by then. */
  received: fc.double({ min: 0, max: 1, noNaN: true }),
});

t.test('a log has every write that was not received', async (t) => {
  let refused = 0;
  fc.assert(
    fc.property(fc.array(write, { minLength: 1, maxLength: 60 }), (writes) => {
      const room = new TestRoom();
      const log = new SentLog(room);
      let all = EMPTY;
      let received = 0;
      /** From here on nothing was refused. */
      let from = 0;
      for (const [nth, { bytes, segments, received: part }] of writes.entries()) {
        received += Math.floor((all.length - received) * part);
        log.forget(received);
        const piece = Buffer.alloc(bytes, nth % 251);
        const each = Math.floor(bytes / (segments + 1));
        const parts = Array.from({ length: segments }, (_, at) => piece.subarray(at * each, (at + 1) * each));
        const slab = Buffer.concat([Buffer.alloc(5, 0xff), piece, Buffer.alloc(5, 0xff)]);
        all = Buffer.concat([all, piece]);
        if (!log.add(parts, slab, 5 + segments * each, 5 + bytes, all.length, LIMIT)) {
          refused++;
          log.clear();
          from = all.length;
        }
        if (log.heldBytes !== room.taken || room.taken > LIMIT) return false;
      }
      const left = log.takeAll();
      const kept = Buffer.concat(left.map(({ buffer, start, end }) => buffer.subarray(start, end)));
      release(left);
      return (
        room.taken === 0 &&
        kept.length >= all.length - Math.max(received, from) &&
        kept.equals(all.subarray(all.length - kept.length))
      );
    }),
    { numRuns: 300 },
  );
  t.ok(refused > 0, 'some did not fit');
});

t.test('a log that finds no memory adds nothing', async (t) => {
  const room = new TestRoom();
  room.maxBytes = 10_000;
  const log = new SentLog(room);
  const bytes = Buffer.alloc(5_000, 1);
  t.ok(log.add([], bytes, 0, 4_000, 4_000, LIMIT));
  t.notOk(log.add([bytes], bytes, 0, 5_000, 14_000, LIMIT), 'as the room has no more');
  t.equal(log.takeAll()[0]!.end, 4_000);
  t.equal(room.taken, 0);
  room.maxBytes = 1e9;
  t.notOk(log.add([], Buffer.alloc(300_000), 0, 300_000, 300_000, 1e9), 'as a write is too large');
  t.notOk(log.add([], bytes, 0, 5_000, 5_000, 4_096), 'as the limit is lower');
  t.ok(log.add([], bytes, 0, 4_000, 4_000, 4_096));
  log.forget(4_000);
  t.ok(log.add([], bytes, 0, 4_000, 8_000, 4_096), 'in place of what was received');
});

t.test('memory of a size that nobody wants any more makes room', async (t) => {
  for (let n = 0; n < 100; n++) giveMemory(Buffer.alloc(65_536));
  const wanted = takeMemory(99_999);
  giveMemory(wanted);
  t.equal(takeMemory(99_999), wanted);
});
