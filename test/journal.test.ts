// The journal: a run that is lost has paid for its model's answers, and the next run of the task gets them back.
import { readFileSync, statSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { startDataPlane } from '../scripts/harness/data-plane.ts';
import {
  DONE,
  type ProviderRequest,
  type Script,
  sendError,
  sendJson,
} from '../scripts/harness/llm/provider.ts';
import { RawClient } from '../scripts/harness/raw-grpc.ts';
import { skipWithout } from '../scripts/harness/tool.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { startNats } from '../sidecar/bus/nats/test-support/nats-server.ts';
import { PROCESS_TASK_PATH, readTaskKey } from '../sidecar/task/task-message.ts';
import { providerFor } from './llm/set-up.ts';
import { messageThen, startReplica, trailersOnly } from './support/answers.ts';
import { complaintsAbout, killAgents } from './support/journal-kills.ts';
import { startCounting } from './support/mcp-server.ts';
import { callTool, type Said } from './support/mcp-tasks.ts';
import { type ConsumingPlane, logFile, Submitter, startConsumer } from './support/task-consumer.ts';
import { taskRequest } from './support/upstream.ts';

const provider = await providerFor(t);
let provided = 0;

/** Each answer differs from every other one. */
function answerDifferently({ json }: ProviderRequest, response: ServerResponse): void {
  const content = `answer ${++provided}`;
  const id = `chatcmpl-${provided}`;
  if (json?.['stream'] !== true) {
    const text = JSON.stringify({ id, choices: [{ index: 0, message: { content }, finish_reason: 'stop' }] });
    response.writeHead(200, {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(text),
      'x-request-id': `req-${provided}`,
      'x-ratelimit-remaining-requests': '7',
    });
    response.end(text);
    return;
  }
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  const chunk = (delta: object, finish_reason: string | null): string =>
    `data: ${JSON.stringify({ id, choices: [{ index: 0, delta, finish_reason }] })}\n\n`;
  for (const word of content.split(' ')) response.write(chunk({ content: word }, null));
  response.write(chunk({}, 'stop'));
  response.end(DONE);
}

interface Asked {
  readonly status: number;
  readonly body: string;
  readonly headers: Headers;
}

async function ask(plane: ConsumingPlane, content: unknown, more: object = {}, headers = {}): Promise<Asked> {
  const response = await fetch(`http://${plane.sidecar.llmAddress}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: 'Bearer agents-own', ...headers },
    body: JSON.stringify({ model: 'm', messages: [{ role: 'user', content }], ...more }),
  });
  return { status: response.status, body: await response.text(), headers: response.headers };
}

const isReplayed = ({ headers }: Asked): boolean => headers.get('outrigger-journal') === 'replayed';

type Work = (plane: ConsumingPlane, run: number, lose: () => Promise<never>) => Promise<void>;

interface Scene {
  readonly plane: ConsumingPlane;
  readonly submitter: Submitter;
  /** The file of the answers. */
  readonly file: string;
  /** Requests that the provider has received. */
  paid(): number;
}

/** A sidecar that takes tasks of a bus in a file, before an agent that does this work and passes nothing on. */
async function startScene(
  t: Test,
  name: string,
  work: Work,
  { journal = {}, llm = {} }: { journal?: object; llm?: object } = {},
  script: Script = answerDifferently,
): Promise<Scene> {
  const file = logFile(t);
  const runs = new Map<string, number>();
  const url = provider.script(name, script);
  const app = await startReplica(t, (stream, call) => {
    const { taskId } = readTaskKey(call.body, 5, call.body.length);
    const run = (runs.get(taskId) ?? 0) + 1;
    runs.set(taskId, run);
    const lose = (): Promise<never> => {
      stream.session?.destroy();
      return new Promise(() => {});
    };
    work(plane, run, lose).then(
      () => messageThen(0)(stream, call),
      () => messageThen(13)(stream, call),
    );
  });
  const plane = await startConsumer(t, file, {
    inbound: { app: app.address },
    bus: { consume: { retry_delay: { base: '10ms', max: '50ms' } } },
    llm: { upstreams: [{ name: 'one', url }], ...llm },
    journal: { store: 'bus', ...journal },
  });
  return {
    plane,
    file: file.replace(/\.db$/, '.answers.db'),
    submitter: await Submitter.open(t, file),
    paid: () => provider.requests(name).length,
  };
}

t.test('a second run gets the answers of the first, and pays for what is new', async (t) => {
  const answers: Asked[][] = [];
  const { plane, submitter, paid } = await startScene(t, 'second-run', async (plane, run, lose) => {
    const got: Asked[] = [];
    answers.push(got);
    for (let call = 0; call < 6; call++) {
      got.push(await ask(plane, [`question ${call}`, got.at(-1)?.body ?? ''], { stream: call % 2 === 1 }));
      if (run === 1 && call === 3) await lose();
    }
  });
  const record = await submitter.ended((await submitter.submit()).key);
  t.equal(record.run, 2);
  const [first, second] = answers as [Asked[], Asked[]];
  t.equal(paid(), 6);
  t.same(second.map(isReplayed), [true, true, true, true, false, false]);
  t.same(
    second.slice(0, 4).map(({ body, status }) => [status, body]),
    first.map(({ body, status }) => [status, body]),
  );
  t.match(second[1]!.headers.get('content-type'), /event-stream/);
  t.equal(second[0]!.headers.get('x-request-id'), first[0]!.headers.get('x-request-id'));
  t.equal(second[0]!.headers.get('outrigger-upstream'), 'one');
  t.equal(second[0]!.headers.get('outrigger-attempts'), '0');
  t.equal(second[0]!.headers.get('x-ratelimit-remaining-requests'), null, 'it says nothing of limits now');
  t.match(plane.sidecar.journal.stats, { stored: 6, replayed: 4, missed: 2, unstored: 0, late: 0 });
});

t.test('parallel and equal questions keep their answers, in whatever order they come', async (t) => {
  const answers: Record<string, string>[] = [];
  const { submitter, paid } = await startScene(t, 'parallel', async (plane, run, lose) => {
    const got: Record<string, string> = {};
    answers.push(got);
    const questions = ['a', 'b', 'c', 'same', 'same', 'd'];
    const asked = questions.map(async (question, at) => {
      // The second run asks in the opposite order.
      await sleep(run === 1 ? at * 10 : (6 - at) * 10);
      got[`${question} ${question === 'same' ? at : ''}`] = (await ask(plane, question)).body;
    });
    await Promise.all(asked);
    if (run === 1) await lose();
  });
  await submitter.ended((await submitter.submit()).key);
  const [first, second] = answers as [Record<string, string>, Record<string, string>];
  t.equal(paid(), 6);
  t.equal(new Set(Object.values(first)).size, 6, 'equal questions have answers of their own');
  t.same(Object.values(second).sort(), Object.values(first).sort());
  for (const question of ['a ', 'b ', 'c ', 'd ']) t.equal(second[question], first[question], question);
});

t.test('errors, answers that broke off, and answers without an answer are asked anew', async (t) => {
  const scripts: Record<string, (request: ProviderRequest, response: ServerResponse) => void> = {
    refused: (_, response) => sendError(response, 400),
    cut: (_, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write('data: {"choices":[{"index":0,"delta":{"content":"half"},"finish_reason":null}]}\n\n');
      setTimeout(() => response.destroy(), 10);
    },
    'error in a 200': (_, response) =>
      sendJson(response, 200, { error: { message: 'no', code: 'server_error' } }),
    'an empty object': (_, response) => sendJson(response, 200, {}),
    'no choice': (_, response) => sendJson(response, 200, { id: 'x', choices: [] }),
    'a choice that says nothing': (_, response) =>
      sendJson(response, 200, { choices: [{ message: { role: 'assistant', content: null } }] }),
    'a stream of nothing': (_, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.end(
        `data: {"choices":[{"index":0,"delta":{"role":"assistant"},"finish_reason":null}]}\n\n${DONE}`,
      );
    },
    'no JSON': (_, response) => response.writeHead(200, { 'content-type': 'application/json' }).end('{"half'),
  };
  const statuses: Record<string, number[]> = {};
  const { plane, submitter, paid } = await startScene(
    t,
    'failures',
    async (plane, run, lose) => {
      for (const content of Object.keys(scripts)) {
        const { status } = await ask(plane, content, {
          stream: content === 'cut' || content === 'a stream of nothing',
        }).catch(() => ({
          status: 0,
        }));
        (statuses[content] ??= []).push(status);
      }
      if (run === 1) await lose();
    },
    { llm: { retry: { max_attempts: 1 }, circuit_breaker: { failure_percent: 0 } } },
    (request, response) => {
      const content = (request.json!['messages'] as { content: string }[])[0]!.content;
      const script = scripts[content] ?? answerDifferently;
      script(request, response);
    },
  );
  await submitter.ended((await submitter.submit()).key);
  const twice = (status: number): number[] => [status, status];
  t.same(statuses, {
    refused: twice(400),
    cut: twice(0),
    'error in a 200': twice(200),
    'an empty object': twice(200),
    'no choice': twice(200),
    'a choice that says nothing': twice(200),
    'a stream of nothing': twice(200),
    'no JSON': twice(502),
  });
  t.equal(paid(), 2 * Object.keys(scripts).length, 'each was asked anew');
  t.match(plane.sidecar.journal.stats, { stored: 0, replayed: 0 });
});

t.test('answers go to no other task and no other caller, and the end of a task removes them', async (t) => {
  const runs: Asked[] = [];
  const { plane, submitter, file, paid } = await startScene(t, 'others', async (plane, _run, lose) => {
    runs.push(await ask(plane, 'the same'), await ask(plane, 'the same'));
    // Each task has two runs.
    if (runs.length % 4 === 2) await lose();
  });
  for (const order of [{ id: 'one' }, { id: 'two' }, { id: 'one', scope: 'another caller' }, { id: 'one' }])
    await submitter.ended((await submitter.submit(order)).key);
  // The first and the last are the same task, of two generations.
  const each = [false, false, true, true];
  t.same(runs.map(isReplayed), [...each, ...each, ...each, ...each]);
  t.equal(paid(), 8);
  await waitUntil('all are removed', () => {
    const db = new DatabaseSync(file, { readOnly: true });
    const { left } = db.prepare('SELECT count(*) AS left FROM answers').get() as { left: number };
    db.close();
    return left === 0;
  });
  t.equal(plane.sidecar.journal.stats.unstored, 0);
});

t.test('a sealed journal shows nothing, and without its key nothing is kept', async (t) => {
  process.env['TEST_JOURNAL_KEY'] = Buffer.alloc(32, 7).toString('base64');
  t.teardown(() => delete process.env['TEST_JOURNAL_KEY']);
  const work = async (plane: ConsumingPlane, run: number, lose: () => Promise<never>) => {
    const { body } = await ask(plane, 'a secret question');
    if (run === 1) seen = readFileSync(`${file}-wal`).includes(/answer \d+/.exec(body)![0]);
    if (run === 1) await lose();
  };
  let file = '';
  let seen = true;
  for (const variable of ['TEST_JOURNAL_KEY', 'NO_SUCH_VARIABLE']) {
    const scene = await startScene(t, variable, work, { journal: { encrypt_key_env: variable } });
    file = scene.file;
    const { problem, stats } = scene.plane.sidecar.journal;
    if (variable === 'TEST_JOURNAL_KEY') {
      await scene.submitter.ended((await scene.submitter.submit()).key);
      t.notOk(seen);
      t.match(stats, { stored: 1, replayed: 1 });
      t.equal(statSync(file).mode & 0o777, 0o600);
    } else {
      await waitUntil('it says why', () => scene.plane.sidecar.journal.problem.includes(variable));
      t.match(problem, /./);
      const asked = await scene.submitter.submit({ input: 'work' });
      await scene.submitter.ended(asked.key).catch(() => {});
      t.match(stats, { stored: 0, replayed: 0 });
      t.ok(stats.unstored > 0, 'and that is counted');
    }
  }
});

t.test('an answer that was cut, or moved to another question, is asked anew and replaced', async (t) => {
  process.env['TEST_JOURNAL_KEY'] = Buffer.alloc(32, 7).toString('base64');
  t.teardown(() => delete process.env['TEST_JOURNAL_KEY']);
  for (const journal of [{}, { encrypt_key_env: 'TEST_JOURNAL_KEY' }]) {
    const answers: Asked[][] = [];
    let file = '';
    const work = async (plane: ConsumingPlane, run: number, lose: () => Promise<never>) => {
      const got: Asked[] = [];
      for (const question of ['a', 'b', 'cut']) got.push(await ask(plane, question));
      answers.push(got);
      if (run === 1) damage(file);
      if (run < 3) await lose();
    };
    const scene = await startScene(t, `damaged-${Object.keys(journal).length}`, work, { journal });
    file = scene.file;
    await scene.submitter.ended((await scene.submitter.submit()).key);
    t.same(
      answers.map((got) => got.map(isReplayed)),
      [Array(3).fill(false), Array(3).fill(false), Array(3).fill(true)],
    );
    t.same(
      answers[2]!.map(({ body }) => body),
      answers[1]!.map(({ body }) => body),
    );
    t.equal(scene.paid(), 6);
    t.match(scene.plane.sidecar.journal.stats, { stored: 6, missed: 3, replayed: 3 });
  }
});

/** Swaps the first two answers of a file, and cuts the third. */
function damage(file: string): void {
  const db = new DatabaseSync(file);
  db.exec('PRAGMA busy_timeout = 5000');
  const rows = db.prepare('SELECT id, payload FROM answers ORDER BY id').all();
  const [a, b, cut] = rows as { id: number; payload: Uint8Array }[];
  const write = db.prepare('UPDATE answers SET payload = ? WHERE id = ?');
  write.run(b!.payload, a!.id);
  write.run(a!.payload, b!.id);
  write.run(cut!.payload.subarray(0, cut!.payload.length / 2), cut!.id);
  db.close();
}

t.test('a replay spends no budget, and the page says where prompts differ', async (t) => {
  const statuses: number[] = [];
  const { plane, submitter } = await startScene(
    t,
    'budget',
    async (plane, run, lose) => {
      // Both fit into the budget once.
      for (const content of ['first', 'second'])
        statuses.push((await ask(plane, content, { max_tokens: 400 })).status);
      await ask(plane, `at ${process.hrtime.bigint()} the time is no good beginning`, { max_tokens: 10 });
      if (run === 1) await lose();
    },
    { llm: { limits: { tokens_per_task: 1_600 } } },
  );
  await submitter.ended((await submitter.submit({ id: 'order-1' })).key);
  t.same(statuses, [200, 200, 200, 200]);
  const [difference, ...more] = plane.sidecar.journal.stats.differences;
  t.same(more, []);
  t.match(difference, { taskId: 'order-1', path: '/chat/completions', at: 'messages[0].content' });
  const start = JSON.stringify({ model: 'm', messages: [{ role: 'user', content: 'at ' }] }).indexOf('at ');
  t.ok(difference!.fromByte <= start + 20 && difference!.toByte > start);
  t.match(plane.sidecar.journal.stats, { replayed: 2, missed: 1 });
});

t.test('a store that is away or slow delays no answer, and that is counted', async (t) => {
  const scene = await startScene(t, 'slow', async (plane, run, lose) => {
    await ask(plane, 'before');
    const other = new DatabaseSync(scene.file);
    other.exec('BEGIN IMMEDIATE');
    await ask(plane, 'while another process holds the file');
    await waitUntil('it is late', () => plane.sidecar.journal.stats.late > 0);
    other.exec('COMMIT');
    other.close();
    if (run === 1) await lose();
  });
  await scene.submitter.ended((await scene.submitter.submit()).key);
  t.ok(scene.plane.sidecar.journal.stats.late > 0);
  const away = await startScene(t, 'away', async (plane) => void (await ask(plane, 'question')), {
    journal: { store: `file:${import.meta.filename}/journal.db` },
  });
  await waitUntil('it says why', () =>
    /journal.store: can't use .*this user needs to write/.test(away.plane.sidecar.journal.problem),
  );
  await away.submitter.ended((await away.submitter.submit()).key);
  t.match(away.plane.sidecar.journal.stats, { stored: 0, unstored: 1 });
});

t.test('without a bus, a caller that sends its task again gets the answers back', async (t) => {
  const url = provider.script('direct', answerDifferently);
  const folder = dirname(logFile(t));
  const asked: Asked[] = [];
  let run = 0;
  const app = await startReplica(t, (stream, call) => {
    run++;
    void ask(plane as ConsumingPlane, 'question').then((one) => {
      asked.push(one);
      // The agent had no luck with something else.
      if (run === 1) trailersOnly(14)(stream, call);
      else messageThen(0)(stream, call);
    });
  });
  const plane = await startDataPlane(t, {
    inbound: { app: app.address },
    llm: { upstreams: [{ name: 'one', url }] },
    journal: { store: `file:${join(folder, 'journal.db')}` },
  });
  const caller = new RawClient(t, plane.inboundPort);
  const send = (id: string) => caller.unary(taskRequest({ id }), { path: PROCESS_TASK_PATH });
  t.equal((await send('one')).code, 14);
  t.equal((await send('one')).code, 0);
  t.equal((await send('')).code, 0);
  t.same(asked.map(isReplayed), [false, true, false]);
  t.equal(asked[1]!.body, asked[0]!.body);
  t.equal(plane.sidecar.journal.stats.stored, 1, 'a task without an id has no journal');
});

for (const kind of ['file', 'nats'] as const)
  t.test(
    `calls of tools come back after the sidecar's restart, with a journal in ${kind}`,
    { skip: kind === 'nats' && skipWithout('nats-server') },
    async (t) => {
      const tools = await startCounting(t, {});
      const file = logFile(t);
      const nats = kind === 'nats' ? await startNats(t) : undefined;
      const bus = nats === undefined ? `file:${file}` : `nats://${nats.address}`;
      const runs: Said[][] = [];
      const planes: ConsumingPlane[] = [];
      const app = await startReplica(t, (stream, call) => {
        const said: Said[] = [];
        runs.push(said);
        const url = new URL(`http://${planes.at(-1)!.sidecar.mcp.address}/mcp/tools`);
        const callIt = async (tool: string, args: object) => {
          said.push(await callTool(url, tool, args));
        };
        const work = async () => {
          await callIt('write', { n: 1 });
          await callIt('write', { n: 2 });
          // Its answer never comes in the first run, and the second one must not make it again.
          await callIt('slow', {});
          if (runs[0] === said) throw new Error('the sidecar of this run is gone');
          await callIt('write', { n: 3 });
        };
        work().then(
          () => messageThen(0)(stream, call),
          () => {},
        );
      });
      const start = async () => {
        planes.push(
          await startConsumer(t, file, {
            inbound: { app: app.address },
            bus: { url: bus, consume: { lease: '2s', retry_delay: { base: '10ms', max: '50ms' } } },
            mcp: { listen: '127.0.0.1:0', servers: { tools: { url: tools.url } } },
            journal: { store: 'bus' },
          }),
        );
      };
      await start();
      const submitter = await Submitter.open(t, bus);
      const { key } = await submitter.submit();
      await waitUntil('the third call has been sent', () => tools.effects.slow === 1);
      planes[0]!.sidecar.close();
      await start();
      t.match(await submitter.ended(key), { state: 'done' });
      const [, second] = runs as [Said[], Said[]];
      t.same(
        second.map(({ headers, result }) => [
          headers.get('outrigger-journal') ?? headers.get('outrigger-reason'),
          result?.content[0]?.text.slice(0, 31),
        ]),
        [
          ['replayed', 'write 1'],
          ['replayed', 'write 1'],
          ['outcome_unknown', 'The outcome of this call is unk'],
          [null, 'write 1'],
        ],
      );
      for (const n of [1, 2, 3]) t.equal(tools.effects.of('write', { n }), 1, `the effect of ${n}`);
      t.equal(tools.effects.slow, 1);
    },
  );

for (const order of ['chain', 'parallel'] as const)
  t.test(`an agent that is killed with -9 pays for no answer twice, ${order}`, async (t) => {
    const tasks = await killAgents(t, { kills: 2, order, seed: 4711 });
    t.same(complaintsAbout(tasks, order), []);
  });
