// Large outputs of submitted tasks share the gateway's memory: who gets room now, and who waits.
import t from 'tap';
import { ApiError } from '../api-error.ts';
import { AnswerRoom, type Release } from './answer-room.ts';

const mib = 1_048_576;

t.test('addresses share the room, and a large output is not overtaken for ever', async (t) => {
  const room = new AnswerRoom(8 * mib);
  const granted: string[] = [];
  const stays = new AbortController().signal;
  const ask = async (name: string, bytes: number, address = name): Promise<Release> => {
    const release = await room.take(address, bytes, stays);
    granted.push(name);
    return release;
  };
  const first = await ask('flood 1', 3 * mib, 'flood');
  const second = await ask('flood 2', 3 * mib, 'flood');
  const third = ask('flood 3', 2 * mib, 'flood');
  const large = ask('large', 4 * mib);
  const small = await ask('small', 1_000);
  t.strictSame(granted, ['flood 1', 'flood 2', 'small'], 'a small output takes no room');
  t.equal(room.waiting, 2);
  first();
  first();
  t.equal(room.heldBytes, 7 * mib, 'given back once');
  (await large)();
  (await third)();
  t.strictSame(granted.slice(3), ['large', 'flood 3'], 'who holds least is next');
  second();
  small();
  t.equal(room.heldBytes, 0);
  const whole = await ask('whole', 20 * mib);
  t.equal(room.heldBytes, 20 * mib, 'one that is larger than all goes alone');
  const gone = new AbortController();
  const leaves = room.take('gone', mib, gone.signal);
  gone.abort();
  await t.rejects(leaves, ApiError);
  t.equal(room.waiting, 0);
  whole();
});

t.test('who finds no room in time is told when to ask again', async (t) => {
  const room = new AnswerRoom(mib, 1);
  const signal = new AbortController().signal;
  const release = await room.take('one', mib, signal);
  const refused = await room.take('other', mib, signal).catch((error: unknown) => error);
  t.match(refused, { httpStatus: 503, reason: 'overloaded', retryAfterS: 1 });
  release();
  t.equal(room.heldBytes, 0);
});
