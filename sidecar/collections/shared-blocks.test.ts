// Pieces of shared blocks: none overwrites another, and blocks without pieces are used again.
import t from 'tap';
import fc from '../../scripts/harness/properties.ts';
import { type SharedBlock, SharedBlocks } from './shared-blocks.ts';

t.test('pieces that come and go keep their bytes, in few blocks', async (t) => {
  const step = fc.record({ bytes: fc.integer({ min: 1, max: 100 }), gives: fc.boolean(), which: fc.nat() });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 400 }), (steps) => {
      const blocks = new SharedBlocks(256, 4);
      const live: { block: SharedBlock; start: number; bytes: Buffer }[] = [];
      for (const [i, { bytes: length, gives, which }] of steps.entries()) {
        if (gives && live.length > 0) {
          const [{ block }] = live.splice(which % live.length, 1) as [(typeof live)[number]];
          blocks.give(block);
          continue;
        }
        const bytes = Buffer.alloc(length, i);
        const block = blocks.copy(bytes, 0, length);
        live.push({ block, start: block.used - length, bytes });
      }
      return live.every(
        ({ block, start, bytes }) =>
          block.buffer.compare(bytes, 0, bytes.length, start, start + bytes.length) === 0,
      );
    }),
  );

  const blocks = new SharedBlocks(256, 4);
  const used = new Set<SharedBlock>();
  const ring: SharedBlock[] = [];
  for (let i = 0; i < 1_000; i++) {
    ring.push(blocks.take(1 + (i % 60)));
    used.add(ring.at(-1)!);
    if (ring.length > 50) blocks.give(ring.shift()!);
  }
  t.ok(used.size < 20, `${used.size} blocks for 50 pieces at a time`);
});

t.test('a piece is given back once, and blocks without pieces can be freed', async (t) => {
  const blocks = new SharedBlocks(64, 4);
  const one = blocks.take(40);
  const other = blocks.take(40);
  t.not(one, other, 'there is no room for both');
  blocks.give(one);
  t.throws(() => blocks.give(one), { message: /given back twice/ });
  blocks.trim();
  t.equal(blocks.take(20), other, 'which has a piece, and room');
  t.not(blocks.take(40), one, 'which was freed');
});
