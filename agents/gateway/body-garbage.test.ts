/** Tests when the gateway collects the garbage of large bodies. */
import { setImmediate as turn } from 'node:timers/promises';
import t from 'tap';
import { BodyGarbage } from './body-garbage.ts';

const MEBIBYTE = 1024 * 1024;

t.test('the garbage of large bodies is collected once for every four MiB, after the request', async (t) => {
  let collections = 0;
  const garbage = new BodyGarbage(() => {
    collections++;
  });
  for (let i = 0; i < 3; i++) garbage.add(MEBIBYTE);
  await turn();
  t.equal(collections, 0, 'not yet');
  garbage.add(MEBIBYTE);
  garbage.add(20 * MEBIBYTE);
  t.equal(collections, 0, 'not within a request');
  await turn();
  t.equal(collections, 1, 'once for all of them');
  garbage.add(MEBIBYTE);
  await turn();
  t.equal(collections, 1);
});

t.test('the collector of the process runs', async (t) => {
  const garbage = new BodyGarbage();
  garbage.add(4 * MEBIBYTE);
  await turn();
  t.type(globalThis.gc, 'undefined', 'and nobody else has it');
});
