// What a client is told of a task: chunks of one run only, also after it has come back.
import t from 'tap';
import type { TaskRecord } from '../../bus/log/task-record.ts';
import { TaskStory, type Told } from './task-story.ts';

const record = (change: Partial<TaskRecord>): TaskRecord => ({
  key: 'k',
  digest: 'd',
  agentType: 'research',
  publisher: '',
  caller: '',
  generation: 1,
  state: 'running',
  run: 1,
  lostRuns: 0,
  holder: 'a',
  submittedAtMs: 1,
  startedAtMs: 10,
  endedAtMs: 0,
  deadlineAtMs: Number.POSITIVE_INFINITY,
  lastSequence: 0,
  result: undefined,
  cause: '',
  ...change,
});

const state = (change: Partial<TaskRecord>) => ({ kind: 'state', record: record(change) }) as const;

/** A batch of the texts, the first with this sequence. */
function chunks(run: number, firstSequence: number, ...texts: string[]) {
  const framed = texts.map((text) => {
    const prefix = Buffer.alloc(5);
    prefix.writeUInt32BE(Buffer.byteLength(text), 1);
    return Buffer.concat([prefix, Buffer.from(text)]);
  });
  const batch = { run, firstSequence, count: texts.length, payload: Buffer.concat(framed) };
  return { kind: 'chunks', batch } as const;
}

/** `1:a` is a chunk with its sequence, `run 2 after 3` says that the chunks so far don't count. */
function written(told: Iterable<Told>): string[] {
  return [...told].map((one) => {
    if (one.kind === 'chunk') return `${one.sequence}:${one.message}`;
    if (one.kind === 'run') return `run ${one.run} after ${one.afterSequence}`;
    return one.kind === 'end' ? 'end' : one.record.state;
  });
}

function told(
  story: TaskStory,
  ...events: (ReturnType<typeof state> | ReturnType<typeof chunks>)[]
): string[] {
  const lines = written(story.begin());
  for (const event of events) lines.push(...written(story.tell(event)));
  return [...lines, ...written(story.finish())];
}

const plain = (payload: Buffer): Buffer => payload;
const storyOf = (now: Partial<TaskRecord>, held: number): TaskStory =>
  new TaskStory(record(now), held, plain);

t.test('a client that stays is told of a new run before its chunks', async (t) => {
  const story = storyOf({ state: 'queued', run: 0, startedAtMs: 0 }, 0);
  t.equal(story.readAfter, 0);
  t.strictSame(
    told(
      story,
      state({ state: 'queued', run: 0, startedAtMs: 0 }),
      state({}),
      chunks(1, 1, 'a', 'b'),
      state({ state: 'queued', lostRuns: 1, lastSequence: 2 }),
      state({ run: 2, lostRuns: 1, startedAtMs: 20, lastSequence: 2 }),
      chunks(1, 2, 'late'),
      chunks(2, 3, 'A', 'B'),
      state({ run: 2, state: 'done', startedAtMs: 20, lastSequence: 4 }),
    ),
    ['queued', 'running', '1:a', '2:b', 'queued', 'run 2 after 2', 'running', '3:A', '4:B', 'end'],
  );
});

t.test('a watcher that is behind gets the chunks that the new run has written meanwhile', async (t) => {
  t.strictSame(
    told(
      storyOf({}, 0),
      chunks(1, 1, 'a'),
      state({ run: 2, lostRuns: 1, startedAtMs: 20, lastSequence: 4 }),
      chunks(1, 2, 'b'),
      chunks(2, 3, 'A', 'B'),
    ),
    ['running', '1:a', 'run 2 after 1', 'running', '3:A', '4:B'],
  );
});

t.test('a run that was handed back leaves no chunk, although the next one has its number', async (t) => {
  t.strictSame(
    told(
      storyOf({}, 0),
      chunks(1, 1, 'a'),
      state({ state: 'queued', run: 0, lastSequence: 1 }),
      state({ startedAtMs: 30, lastSequence: 1 }),
      chunks(1, 2, 'A'),
      state({ state: 'done', startedAtMs: 30, lastSequence: 2 }),
    ),
    ['running', '1:a', 'queued', 'run 1 after 1', 'running', '2:A', 'end'],
  );
});

t.test('a client that comes back within a run goes on where it was', async (t) => {
  const story = storyOf({ lastSequence: 3 }, 2);
  t.equal(story.readAfter, 1, 'the chunk that it has proves that its run still counts');
  t.strictSame(
    told(
      story,
      state({ lastSequence: 3 }),
      chunks(1, 1, 'a', 'b', 'c'),
      chunks(1, 4, 'd'),
      state({ state: 'done' }),
    ),
    ['running', '3:c', '4:d', 'end'],
  );
});

t.test('a client that comes back after its run was lost drops what it had', async (t) => {
  const now = { run: 2, lostRuns: 1, startedAtMs: 20, lastSequence: 6 };
  t.strictSame(
    told(storyOf(now, 3), chunks(1, 3, 'c', 'd'), chunks(2, 5, 'A', 'B')),
    ['running', 'run 2 after 3', '5:A', '6:B'],
    'the log still had its chunk',
  );
  t.strictSame(told(storyOf(now, 3), chunks(2, 5, 'A', 'B')), ['running', 'run 2 after 3', '5:A', '6:B']);
  const silent = { run: 2, state: 'done', startedAtMs: 20, lastSequence: 4 } as const;
  t.strictSame(told(storyOf(silent, 3)), ['run 2 after 3', 'end'], 'a run without chunks');
});

t.test('a client with chunks of an earlier generation begins again', async (t) => {
  const story = storyOf({ generation: 2, state: 'queued', run: 0, lastSequence: 0 }, 7);
  t.equal(story.readAfter, 0);
  const second = [state({ generation: 2, startedAtMs: 90 }), chunks(1, 1, 'a', 'b')];
  t.strictSame(told(story, ...second), [
    'run 0 after 1000000000',
    'queued',
    'running',
    '1000000001:a',
    '1000000002:b',
  ]);
  const now = { generation: 2, startedAtMs: 90, lastSequence: 9 };
  t.strictSame(
    told(storyOf(now, 2), ...second),
    ['run 1 after 1000000000', 'running', '1000000001:a', '1000000002:b'],
    'although the log has chunks of these sequences again',
  );
  t.strictSame(told(storyOf(now, 1_000_000_001), ...second), ['running', '1000000002:b']);
  t.strictSame(told(storyOf({ lastSequence: 2 }, 0), chunks(1, 1, 'x', 'y'), ...second), [
    'running',
    '1:x',
    '2:y',
    'run 1 after 1000000000',
    'running',
    '1000000001:a',
    '1000000002:b',
  ]);
});

t.test(
  'a task that has ended gives its chunks and then its end, whenever the log says that it has',
  async (t) => {
    const ended = { state: 'done', lastSequence: 2 } as const;
    t.strictSame(told(storyOf(ended, 0), state(ended), chunks(1, 1, 'a', 'b'), state(ended)), [
      '1:a',
      '2:b',
      'end',
    ]);
    t.strictSame(told(storyOf(ended, 0), chunks(1, 1, 'a', 'b'), state(ended)), ['1:a', '2:b', 'end']);
    t.strictSame(told(storyOf({ state: 'cancelled' }, 0)), ['end']);
  },
);
