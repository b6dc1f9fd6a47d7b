// The ends of streams are kept for a moment, and within bounds.
import t from 'tap';
import { type EndedStream, EndedStreams } from './ended-streams.ts';
import { ReplayLog } from './replay-log.ts';

function ended(name: string, bytes = 10): EndedStream & { carrier: { closed: boolean } } {
  const log = new ReplayLog();
  log.append(Buffer.alloc(bytes), 0, bytes);
  const end = { status: 0 as const, taskStatus: -1, trailers: [] };
  return { name, path: '/p', callerScope: '', head: [], log, from: 0, end, carrier: { closed: true } };
}

t.test('an end is kept for a moment after its stream has closed', async (t) => {
  const streams = new EndedStreams();
  const slow = { ...ended('slow'), carrier: { closed: false } };
  streams.add(ended('sent'), 0, 1_000, 1e6);
  streams.add(slow, 0, 1_000, 1e6);
  t.equal(streams.nextAtMs, 1_000);
  streams.sweep(1_000, 1_000);
  t.ok(streams.get('sent'), 'its stream may have closed just before');
  streams.sweep(2_000, 1_000);
  t.notOk(streams.get('sent'));
  streams.sweep(60_000, 1_000);
  t.ok(streams.get('slow'), 'its reader has not read all of it');
  slow.carrier.closed = true;
  streams.sweep(61_000, 1_000);
  t.ok(streams.get('slow'));
  streams.sweep(62_000, 1_000);
  t.equal(streams.size, 0);
  t.equal(streams.bytes, 0);
  t.equal(streams.nextAtMs, Number.POSITIVE_INFINITY);
});

t.test('older ends make room for younger ones', async (t) => {
  const streams = new EndedStreams();
  for (let n = 0; n < 3_000; n++) streams.add(ended(`${n}`), 0, 1_000, 1e9);
  t.equal(streams.size, 1_024);
  t.notOk(streams.get('0'));
  t.ok(streams.get('2999'));
  streams.add(ended('large', 100_000), 0, 1_000, 140_000);
  t.ok(streams.bytes <= 140_000);
  t.ok(streams.get('large'));
  const { size } = streams;
  streams.add(ended('too large', 200_000), 0, 1_000, 140_000);
  t.notOk(streams.get('too large'));
  t.equal(streams.size, size, 'and costs no other');
});
