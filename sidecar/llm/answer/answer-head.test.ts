/** Tests that the heads of held answers count with their bodies. */
import t from 'tap';
import { headCost } from '../shared/head-cost.ts';
import { AnswerHead } from './answer-head.ts';
import { AnswerMemory, HeldBytes, OWN_BYTES } from './held-answers.ts';

const LARGE = headCost(60_000, 100);

t.test('a head counts with the held bytes of its answer until the caller has received it', async (t) => {
  const memory = new AnswerMemory(LARGE);
  const head = new AnswerHead(new HeldBytes(memory));
  t.equal(head.take(200, { 'x-a': 'b' }, LARGE), true);
  t.equal(memory.bytes, LARGE - OWN_BYTES);
  const other = new AnswerHead(new HeldBytes(memory));
  t.equal(other.take(200, {}, LARGE), false, 'there is no room for another one');
  head.passOn();
  t.equal(memory.bytes, 0);
  t.equal(other.take(200, {}, LARGE), true, 'there is room now');
  head.drop();
  other.drop();
  t.equal(memory.bytes, 0, 'nothing is given back twice');
});

t.test(
  'of a large head, only the fields that a failure needs stay after the caller has received it',
  async (t) => {
    const head = new AnswerHead(new HeldBytes(new AnswerMemory()));
    const asked = { 'retry-after': '7', 'x-ratelimit-reset-tokens': '6m0s' };
    head.take(200, { ...asked, 'x-large': 'v'.repeat(60_000), date: 'd'.repeat(1_000) }, LARGE);
    head.passOn();
    t.strictSame(head.headers, asked);
    t.equal(head.status, 200);
  },
);
