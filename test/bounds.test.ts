// Holds docs/bounds.md to the defaults of the schema and to the constants of the code: the table can't say what is not so.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { residentBytes } from '../scripts/harness/memory.ts';
import { startRawServer } from '../scripts/harness/raw-grpc.ts';
import { startSidecar } from '../scripts/harness/sidecar.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { validate } from '../sidecar/config/validate.ts';
import { MIN_HELD_BYTES } from '../sidecar/http2/held-requests.ts';
import { queuedMemory } from '../sidecar/http2/queued-memory.ts';
import { MAX_UNREAD_BYTES } from '../sidecar/listeners/unread-pages.ts';
import { answerMemory, OWN_BYTES } from '../sidecar/llm/answer/held-answers.ts';
import { bodyMemoryFor } from '../sidecar/llm/limits/body-memory.ts';
import { MAX_LARGE_HEADS_BYTES, USUAL_HEAD_BYTES } from '../sidecar/llm/limits/head-memory.ts';
import { MAX_READ_BYTES } from '../sidecar/llm/relay/parser-feed.ts';
import { KEPT_REQUESTS_MAX_BYTES } from '../sidecar/proxy/kept-requests.ts';

t.setTimeout(290_000);

const CONTAINER_BYTES = 512 * 1024 * 1024;
const markdown = readFileSync(join(import.meta.dirname, '../docs/bounds.md'), 'utf8');

const validated = validate({ outbound: { clusters: { any: { endpoints: ['127.0.0.1:1'] } } } });
if ('findings' in validated) throw new Error(JSON.stringify(validated.findings));
const defaults = validated.file;

/** `*` stands for any cluster. */
function defaultOf(key: string): unknown {
  let value: unknown = defaults;
  for (const name of key.split('.')) value = (value as Record<string, unknown>)[name === '*' ? 'any' : name];
  return value;
}

const numberOf = (key: string): number => {
  const value = defaultOf(key);
  if (typeof value !== 'number') throw new Error(`${key} has no number as its default`);
  return value;
};

/** What the process has without a call, with everything loaded, once its start is collected; the last test measures it. */
const IDLE_BYTES = 120_000_000;

/** What a head of the largest list takes, and what a call takes beside it. */
const callBytes = (maxHeaderBytes: number): number => 2 * maxHeaderBytes + 4_096;
const HEADS_BYTES = 16_777_216 + 8_192 * numberOf('inbound.limits.max_connections');

/** The rows of each table by their names: what they come to at the defaults. */
const tables: readonly Readonly<Record<string, number>>[] = [
  {
    'the process itself': IDLE_BYTES,
    'requests that no endpoint has yet': Math.max(
      MIN_HELD_BYTES,
      16_384 * (numberOf('inbound.max_concurrent_calls') + numberOf('inbound.queue.max_calls')),
    ),
    'calls that run':
      numberOf('inbound.max_concurrent_calls') * callBytes(numberOf('inbound.limits.max_header_bytes')),
    'what calls that run keep of their requests, to send them to the app again': KEPT_REQUESTS_MAX_BYTES,
    'heads that repeat, kept to be found again': HEADS_BYTES,
    'bytes that wait for readers': 2 * queuedMemory.maxBytes,
    'answers to tasks and parts of streams, kept to be given again': numberOf('inbound.tasks.max_bytes'),
    // There is no bus by default.
    'answers, chunks and requests of tasks on the bus, on their way': 0,
    'pages of metrics and states that nobody reads': MAX_UNREAD_BYTES,
  },
  {
    'calls of one cluster that run':
      numberOf('outbound.clusters.*.limits.max_concurrent_calls') *
      (callBytes(numberOf('outbound.limits.max_header_bytes')) +
        numberOf('outbound.clusters.*.retry.buffer_bytes')),
    'bodies of requests to models': bodyMemoryFor(CONTAINER_BYTES),
    'heads of requests to models that run':
      MAX_LARGE_HEADS_BYTES + USUAL_HEAD_BYTES * numberOf('llm.limits.max_concurrent_requests'),
    'answers of models and their heads, held until they are whole or decided on':
      answerMemory.maxBytes + OWN_BYTES * numberOf('llm.limits.max_concurrent_requests'),
    'what has been read of answers and waits to be parsed':
      MAX_READ_BYTES * numberOf('llm.limits.max_concurrent_requests'),
  },
];

const sumOf = (rows: Readonly<Record<string, number>>): number =>
  Object.values(rows).reduce((total, bytes) => total + bytes, 0);
const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;

const writtenTables = [...markdown.matchAll(/\| What is held [^\n]*\n\|[ -|]*\n((?:\|[^\n]*\n)+)/g)].map(
  ([, lines = '']) =>
    lines
      .trim()
      .split('\n')
      .map((line) =>
        line
          .slice(1, -1)
          .split('|')
          .map((cell) => cell.trim()),
      ),
);

t.test('each table has rows with their sizes, and their sum', async (t) => {
  t.equal(writtenTables.length, tables.length);
  for (const [index, rows] of tables.entries()) {
    const written = new Map(writtenTables[index]!.map(([name = '', , , bytes = '']) => [name, bytes]));
    const expected = new Map(Object.entries(rows).map(([name, bytes]) => [name, megabytes(bytes)]));
    expected.set('**all of it**', `**${megabytes(sumOf(rows))}**`);
    t.strictSame(Object.fromEntries(written), Object.fromEntries(expected));
  }
  const callers = sumOf(tables[0]!);
  t.ok(
    callers < CONTAINER_BYTES,
    `what callers can bring about, ${megabytes(callers)}, fits into the container`,
  );
});

t.test('each limit has the default that the page states', async (t) => {
  let named = 0;
  for (const [, key = '', said = ''] of markdown.matchAll(/`([a-z_]+(?:\.[a-z_*]+)+)` = ([\w.]+)/g)) {
    t.equal(said, String(defaultOf(key)), key);
    named++;
  }
  t.ok(named > 5, `${named} limits are named`);
});

t.test('a process without a call uses no more than its row states', async (t) => {
  const { address } = await startRawServer(t);
  const startWithAll = async () => {
    const sidecar = await startSidecar(t, { inbound: { app: address } }, { env: { NODE_OPTIONS: '' } });
    // The egress and the metrics are loaded when they are asked for.
    await fetch(`http://127.0.0.1:${sidecar.llmPort}/v1/models`);
    await fetch(`http://127.0.0.1:${sidecar.metricsPort}/metrics`);
    return sidecar;
  };
  // The first start after a change compiles all code: on a busy machine what that leaves is more, and comes behind the collection.
  await (await startWithAll()).stop();
  const sidecar = await startWithAll();
  const residentNow = await waitUntil('the garbage of the start is collected', () => {
    const bytes = residentBytes(sidecar.pid);
    return bytes < IDLE_BYTES ? bytes : undefined;
  });
  t.ok(residentNow > 0, `it has ${megabytes(residentNow)}`);
});
