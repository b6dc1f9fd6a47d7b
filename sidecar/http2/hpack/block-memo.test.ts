// The memory for repeated blocks is bounded over all connections, and each has a little of its own.
import t from 'tap';
import { BlockMemo } from './block-memo.ts';
import { HeaderList } from './header-list.ts';

const BLOCKS = 200;

/** The nth block, and a list for it. */
const block = (nth: number): Buffer => Buffer.from(`block ${nth}`.padEnd(100));
const list = (nth: number): HeaderList => new HeaderList([`x-${nth}`, 'v'.repeat(400)]);

/** Shows the memo each block often enough to remember it. @returns how many it remembers */
function remembered(memo: BlockMemo, blocks: number): number {
  for (let round = 0; round < 3; round++)
    for (let nth = 0; nth < blocks; nth++) {
      const bytes = block(nth);
      if (memo.find(bytes, 0, bytes.length, 1) === undefined)
        memo.decoded(bytes, 0, bytes.length, 1, list(nth));
    }
  let found = 0;
  for (let nth = 0; nth < blocks; nth++) {
    const bytes = block(nth);
    if (memo.find(bytes, 0, bytes.length, 1)?.fields[0] === `x-${nth}`) found++;
  }
  return found;
}

t.test('a connection remembers the blocks that it repeats', async (t) => {
  const memo = new BlockMemo();
  t.ok(remembered(memo, BLOCKS) > BLOCKS / 3);
  memo.forget();
  t.equal(memo.find(block(0), 0, 100, 1), undefined);
});

t.test('very many connections share the memory, and each remembers some blocks', async (t) => {
  const memos = Array.from({ length: 400 }, () => new BlockMemo());
  const counts = memos.map((memo) => remembered(memo, BLOCKS));
  t.ok(counts[0]! > BLOCKS / 3);
  const last = counts.at(-1)!;
  t.ok(last > 0 && last < 10, `the last one remembers ${last}`);
  t.equal(remembered(new BlockMemo(), 2), 2, 'one that repeats little notices nothing');
  for (const memo of memos) memo.forget();
  t.ok(remembered(new BlockMemo(), BLOCKS) > BLOCKS / 3, 'what ended connections had is there for others');
});
