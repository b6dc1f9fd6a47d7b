// The queue of spans: batches, bounds, retries and the end.
import t from 'tap';
import { type Span, type SpanEncoder, SpanKind, SpanShape } from './span.ts';
import { type ExportResult, MAX_QUEUE_BYTES, SpanQueue, type SpanQueueSettings } from './span-queue.ts';

const span: Span = {
  shape: new SpanShape('name', SpanKind.SERVER, []),
  traceId: '1'.repeat(32),
  spanHigh: 1,
  spanLow: 2,
  parentHigh: 0,
  parentLow: 0,
  parentIsRemote: false,
  traceFlags: 1,
  traceState: '',
  startedAtMs: 0,
  endedAtMs: 1,
  attributes: [],
  events: undefined,
  droppedEvents: 0,
  links: undefined,
  failed: false,
  statusMessage: '',
};

function setUp(settings: Partial<SpanQueueSettings> = {}, bytesOfSpan = 1) {
  let count = 0;
  const encoder: SpanEncoder = {
    get count() {
      return count;
    },
    get bytes() {
      return count * bytesOfSpan;
    },
    add: () => void count++,
    take() {
      const body = new Uint8Array(count * bytesOfSpan);
      count = 0;
      return body;
    },
    recycle: (body) => void recycled.push(body),
  };
  const recycled: Uint8Array[] = [];
  const sent: { body: Uint8Array; done: (result: ExportResult) => void }[] = [];
  const told: string[] = [];
  const queue = new SpanQueue(
    encoder,
    { send: (body, done) => void sent.push({ body, done }) },
    { maxQueueSize: 10, maxBatchSize: 4, scheduleDelayMs: 60_000, exportTimeoutMs: 60_000, ...settings },
    { onExportFailing: (error) => told.push(error), onExportWorking: () => told.push('works') },
  );
  const add = (times: number): void => {
    for (let i = 0; i < times; i++) queue.add(span);
  };
  return { queue, sent, told, add, recycled };
}

const ok: ExportResult = { ok: true, rejected: 0 };
const failed: ExportResult = { ok: false, error: 'refused' };

t.test(
  'a full batch goes at once, one after the other; what is not taken is dropped and counted',
  async (t) => {
    const { queue, sent, add, recycled } = setUp();
    add(3);
    t.equal(sent.length, 0, 'a batch that is not full waits');
    add(1);
    t.equal(sent[0]!.body.length, 4);
    add(14);
    t.equal(sent.length, 1, 'one request at a time');
    t.equal(queue.size, 14, 'the four that are under way included');
    t.equal(queue.counts.droppedQueueFull, 4);
    sent[0]!.done(ok);
    t.equal(sent.length, 2);
    t.equal(recycled.length, 1);
    sent[1]!.done(ok);
    t.strictSame({ ...queue.counts }, { exported: 8, droppedQueueFull: 4, failed: 0, rejected: 0 });
    t.equal(queue.size, 6, 'four of the ten are under way');
    add(2);
    t.equal(sent.length, 3, 'there is room again');
    sent[2]!.done(ok);
  },
);

t.test('the queue is bounded in bytes, too', async (t) => {
  const { queue, add } = setUp({ maxQueueSize: 1_000, maxBatchSize: 900 }, MAX_QUEUE_BYTES / 4);
  add(6);
  t.equal(queue.size, 4);
  t.equal(queue.counts.droppedQueueFull, 2);
  await queue.close(0);
});

t.test('the queue reports the failure of a collector once, and its recovery once', async (t) => {
  const { queue, sent, told, add } = setUp();
  for (const result of [failed, failed, failed, ok, ok, { ok: true, rejected: 3 } as const, ok]) {
    add(4);
    sent.at(-1)!.done(result);
  }
  t.strictSame(told, ['refused', 'works', 'the collector rejected 3 of 4 spans', 'works']);
  t.strictSame({ ...queue.counts }, { exported: 13, droppedQueueFull: 0, failed: 12, rejected: 3 });
});

t.test('a collector that reports more rejections than spans counts as rejecting all of them', async (t) => {
  const { queue, sent, add } = setUp();
  add(4);
  sent[0]!.done({ ok: true, rejected: 1e9 });
  add(4);
  sent[1]!.done({ ok: true, rejected: -7 });
  t.strictSame({ ...queue.counts }, { exported: 4, droppedQueueFull: 0, failed: 0, rejected: 4 });
});

t.test('the queue gives up an answer that never arrives, and does not overwrite its body', async (t) => {
  const { queue, sent, told, add, recycled } = setUp({ exportTimeoutMs: 300 });
  add(8);
  while (sent.length < 2) await new Promise((resolve) => setTimeout(resolve, 5).ref());
  t.match(told, ['no answer within 300 ms']);
  t.equal(queue.counts.failed, 4);
  t.notOk(recycled.includes(sent[0]!.body));
  sent[0]!.done(ok);
  t.equal(queue.counts.failed, 4, 'too late to count');
});

t.test('the queue sends an incomplete batch when its time is over', async (t) => {
  const { sent, add } = setUp({ scheduleDelayMs: 5 });
  add(1);
  while (sent.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  t.equal(sent[0]!.body.length, 1);
  sent[0]!.done(ok);
});

t.test('close sends the remaining spans, and waits no longer than its limit', async (t) => {
  const good = setUp();
  good.add(6);
  const closed = good.queue.close(60_000);
  good.queue.add(span);
  good.sent[0]!.done(ok);
  good.sent[1]!.done(ok);
  await closed;
  t.strictSame({ ...good.queue.counts }, { exported: 6, droppedQueueFull: 1, failed: 0, rejected: 0 });

  const silent = setUp();
  silent.add(6);
  await silent.queue.close(5);
  t.equal(silent.sent.length, 1);
  t.equal(silent.queue.counts.failed, 2, 'what was never sent is lost, and counted');
  await setUp().queue.close(60_000);
});
