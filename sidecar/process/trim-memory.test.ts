// When a process that has grown is collected, with invented figures.
import t from 'tap';
import { GrowthWatch } from './trim-memory.ts';

const MB = 1_000_000;

t.test('the watch collects a grown process as soon as it has little to do', async (t) => {
  const watch = new GrowthWatch(80 * MB);
  t.notOk(watch.shouldCollect(120 * MB, 0), 'not grown by much');
  t.notOk(watch.shouldCollect(300 * MB, 0.5), 'busy');
  t.notOk(watch.shouldCollect(300 * MB, 0.03), 'some hundred calls a second would wait for it');
  t.ok(watch.shouldCollect(300 * MB, 0.01));
  t.notOk(watch.shouldCollect(90 * MB, 0.01), 'all of it went back');
  t.ok(watch.shouldCollect(200 * MB, 0.01), 'it has grown anew');
  t.notOk(watch.shouldCollect(150 * MB, 0.01), 'a part went back: another look later');
  t.ok(watch.shouldCollect(150 * MB, 0.01));
});

t.test('the watch does not collect again and again what is in use', async (t) => {
  const watch = new GrowthWatch(80 * MB);
  let collections = 0;
  const looks = (count: number, bytes: number): number => {
    collections = 0;
    for (let i = 0; i < count; i++) if (watch.shouldCollect(bytes, 0.01)) collections++;
    return collections;
  };
  t.ok(looks(720, 300 * MB) <= 12, `${collections} in an hour`);
  t.ok(looks(3, 400 * MB) >= 1, 'once more when it has grown further');
  t.equal(looks(10, 100 * MB), 0);
  t.equal(looks(1, 300 * MB), 1, 'as at first when it has been small meanwhile');
});
