// Contract: what a submit stores, joins and refuses.
import { setTimeout as sleep } from 'node:timers/promises';
import { waitUntil } from '../../../../scripts/harness/wait-until.ts';
import { ANSWER_PIECE_BYTES } from '../task-log.ts';
import type { Cases } from './cases.ts';
import {
  ANEW,
  answer,
  JOIN,
  keyOf,
  LONG_LEASE_MS,
  newTask,
  outcomeOf,
  runOne,
  store,
  takesNothing,
} from './logs.ts';

export const submitting: Cases = {
  'a submitted task is stored with all that was said of it, and is seen by others': async (t, open) => {
    const [one, other] = [await open(), await open()];
    const beforeMs = one.nowMs();
    const submitted = await one.submit(newTask('a', { caller: 'alice', timeLeftMs: 3_600_000 }), JOIN);
    t.equal(outcomeOf(submitted), 'stored');
    const record = await other.get(keyOf('a'));
    t.match(record, {
      key: keyOf('a'),
      digest: keyOf('digest of a'),
      agentType: 'research',
      publisher: 'tests',
      caller: 'alice',
      generation: 1,
      state: 'queued',
      run: 0,
      lostRuns: 0,
      holder: '',
      startedAtMs: 0,
      endedAtMs: 0,
      lastSequence: 0,
      cause: '',
    });
    t.equal(record?.result, undefined);
    t.ok(
      record!.submittedAtMs >= beforeMs - 1_000 && record!.submittedAtMs <= other.nowMs() + 1_000,
      'by one clock',
    );
    const leftMs = record!.deadlineAtMs - record!.submittedAtMs;
    t.ok(Math.abs(leftMs - 3_600_000) < 1_000, 'the deadline counts from the submit');
    if (submitted.outcome !== 'refused') t.strictSame(submitted.record, record);
    t.equal(await other.get(keyOf('unknown')), undefined);
    await store(one, newTask('b'));
    t.equal((await other.get(keyOf('b')))?.deadlineAtMs, Number.POSITIVE_INFINITY);
  },

  'a task is joined while it waits, while it runs, and after its end for as long as was asked': async (
    t,
    open,
  ) => {
    const log = await open({ leaseMs: 60_000 });
    await store(log, newTask('a'));
    const submit = async (options = JOIN): Promise<string> =>
      outcomeOf(await log.submit(newTask('a'), options));
    t.equal(await submit(ANEW), 'joined', 'while it waits');
    const lease = await runOne(log);
    t.equal(await submit(ANEW), 'joined', 'while it runs');
    await lease.settle(answer('done'));
    const joined = await log.submit(newTask('a'), { joinEndedForMs: 60_000 });
    t.equal(outcomeOf(joined), 'joined', 'after its end');
    if (joined.outcome !== 'refused') t.equal(String(joined.record.result?.short), 'done');
    t.equal(await submit({ joinEndedForMs: -1 }), 'stored', 'when it ended longer ago');
    const again = await log.get(keyOf('a'));
    t.match(again, { generation: 2, state: 'queued', run: 0, lastSequence: 0, startedAtMs: 0, endedAtMs: 0 });
    t.equal(again?.result, undefined, 'the old result is gone');
    const second = await runOne(log);
    t.match(second.record, { generation: 2, run: 1 });
    await second.settle(answer('done again'));
    t.match(await log.get(keyOf('a')), { generation: 2, state: 'done', run: 1 });
  },

  'many that submit one task at once store it once': async (t, open) => {
    const logs = [await open({ leaseMs: LONG_LEASE_MS }), await open({ leaseMs: LONG_LEASE_MS })];
    const submits = Array.from({ length: 20 }, (_, at) => logs[at % 2]!.submit(newTask('a'), JOIN));
    const outcomes = (await Promise.all(submits)).map(outcomeOf);
    t.equal(outcomes.filter((outcome) => outcome === 'stored').length, 1);
    t.equal(outcomes.filter((outcome) => outcome === 'joined').length, 19);
    await runOne(logs[0]!);
    t.ok(await takesNothing(logs[1]!));
  },

  'dead and cancelled tasks are submitted anew in any case': async (t, open) => {
    const log = await open({ leaseMs: 60_000 });
    await store(log, newTask('a'), newTask('b'));
    await (await runOne(log)).bury('it can not be read');
    await log.cancel(keyOf('b'), 'nobody wants it');
    t.match(await log.get(keyOf('a')), { state: 'dead', cause: 'it can not be read' });
    for (const name of ['a', 'b']) {
      t.equal(outcomeOf(await log.submit(newTask(name), JOIN)), 'stored');
      t.match(await log.get(keyOf(name)), { state: 'queued', generation: 2, cause: '' });
    }
    await (await runOne(log)).settle(answer('one'));
    await (await runOne(log)).settle(answer('two'));
    t.match(await log.get(keyOf('a')), { state: 'done', generation: 2 });
    t.match(await log.get(keyOf('b')), { state: 'done', generation: 2 });
  },

  'a full queue of an agent or of a caller refuses': async (t, open) => {
    const log = await open({ maxQueuedPerAgent: 3, maxQueuedPerCaller: 2, leaseMs: 60_000 });
    const submit = async (name: string, caller: string, agentType = 'research'): Promise<string> =>
      outcomeOf(await log.submit(newTask(name, { caller, agentType }), JOIN));
    t.equal(await submit('a1', 'alice'), 'stored');
    t.equal(await submit('a2', 'alice'), 'stored');
    t.equal(await submit('a3', 'alice'), 'caller_full');
    t.equal(await submit('a1', 'alice'), 'joined', 'what is there needs no room');
    t.equal(await submit('b1', 'bob'), 'stored');
    t.equal(await submit('b2', 'bob'), 'agent_full');
    t.equal(await submit('w1', 'alice', 'writing'), 'stored', 'each agent type has a queue of its own');
    t.equal(await log.get(keyOf('b2')), undefined, 'nothing is kept of what was refused');
    await log.cancel(keyOf('b1'), 'room');
    t.equal(await submit('b3', 'bob'), 'stored');
  },

  'requests that take what a caller, or all, may have are refused, over all agent types': async (t, open) => {
    const log = await open({
      maxQueuedBytes: 300_000,
      maxQueuedBytesPerCaller: 200_000,
      leaseMs: LONG_LEASE_MS,
    });
    const payload = Buffer.alloc(90_000, 'x');
    const submit = async (name: string, caller: string, agentType = 'research'): Promise<string> =>
      outcomeOf(await log.submit(newTask(name, { caller, agentType, payload }), JOIN));
    t.equal(await submit('a1', 'alice'), 'stored');
    t.equal(await submit('a2', 'alice', 'nobody-takes-it'), 'stored');
    t.equal(await submit('a3', 'alice', 'nor-this'), 'caller_bytes_full');
    t.equal(await log.get(keyOf('a3')), undefined, 'nothing is kept of what was refused');
    t.equal(await submit('a1', 'alice'), 'joined', 'what is there needs no room');
    t.equal(await submit('b1', 'bob', 'writing'), 'stored', 'another caller has room of its own');
    t.equal(await submit('c1', 'carol'), 'bytes_full');
    const lease = await runOne(log);
    await lease.bury('it can not be read');
    t.equal(await submit('a3', 'alice'), 'caller_bytes_full', 'a dead letter takes room, too');
    await log.cancel(keyOf('a2'), 'room');
    await waitUntil('there is room', async () => (await submit('a3', 'alice')) === 'stored');
    t.equal(await submit('c1', 'carol'), 'bytes_full');
    t.ok(await log.dropDead(keyOf('a1')));
    await waitUntil('there is room for others', async () => (await submit('c1', 'carol')) === 'stored');
  },

  'a store that is full of results refuses, and takes tasks again when it has room': async (t, open) => {
    const log = await open({ resultsMaxBytes: 256 << 10, resultsMaxAgeMs: 4_000, leaseMs: 60_000 });
    await store(log, newTask('a'), newTask('b'));
    const big = Buffer.alloc(150 << 10, 'x');
    await (await runOne(log)).settle({ status: 0, payload: big });
    const second = await runOne(log);
    await second.write(1, big);
    t.equal(outcomeOf(await log.submit(newTask('c'), JOIN)), 'store_full');
    await second.settle(answer('what runs can still end'));
    t.equal((await log.get(keyOf('b')))?.state, 'done');
    for (;;) {
      const outcome = outcomeOf(await log.submit(newTask('c'), JOIN));
      if (outcome === 'stored') break;
      t.equal(outcome, 'store_full');
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    t.pass('results that are older than their max_age made room');
  },

  'requests, chunks and results may be empty': async (t, open) => {
    const log = await open({ leaseMs: 60_000 });
    for (const generation of [1, 2]) {
      await log.submit(newTask('a', { payload: Buffer.alloc(0) }), ANEW);
      const lease = await runOne(log);
      t.equal(lease.record.generation, generation);
      t.equal((await lease.request()).length, 0);
      await lease.write(1, Buffer.alloc(0));
      await lease.settle({ status: 0, payload: Buffer.alloc(0) });
      t.match(await log.get(keyOf('a')), {
        state: 'done',
        lastSequence: 1,
        result: { bytes: 0, short: Buffer.alloc(0) },
      });
      while ((await log.get(keyOf('a')))!.endedAtMs >= log.nowMs()) await sleep(1);
    }
  },

  'requests, chunks and results of megabytes come back as they were': async (t, open) => {
    const log = await open({ leaseMs: 60_000 });
    const bytes = (length: number, seed: number): Buffer =>
      Buffer.from(Uint8Array.from({ length }, (_, at) => (at * seed) % 251));
    const [request, chunk, result] = [bytes(3 << 20, 7), bytes(2 << 20, 11), bytes(5 << 20, 13)];
    await store(log, newTask('a', { payload: request }));
    const lease = await runOne(log);
    t.equal(lease.requestBytes, request.length);
    t.ok((await lease.request()).equals(request));
    await lease.write(1, chunk);
    await lease.settle({ status: 0, payload: result });
    const record = await log.get(keyOf('a'));
    t.match(record?.result, { bytes: result.length, short: undefined }, 'a record has no large answer');
    const pieces: Buffer[] = [];
    for await (const piece of log.answer(record!)) pieces.push(piece);
    t.ok(Buffer.concat(pieces).equals(result));
    t.ok(Math.max(...pieces.map(({ length }) => length)) <= ANSWER_PIECE_BYTES);
    const events = [];
    for await (const event of log.watch(keyOf('a'), 0, AbortSignal.timeout(60_000))) events.push(event);
    t.ok(events[0]?.kind === 'chunks' && events[0].batch.payload.equals(chunk));
    t.match(events[1], { kind: 'state', record: { result: { bytes: result.length, short: undefined } } });
    t.equal(events.length, 2);
  },
};

export const runningTakesNoRoom: Cases = {
  'tasks that run take no room in their queue': async (t, open) => {
    const log = await open({ maxQueuedPerAgent: 2, maxQueuedPerCaller: 1, leaseMs: 60_000 });
    const submit = async (name: string): Promise<string> =>
      outcomeOf(await log.submit(newTask(name, { caller: 'alice' }), JOIN));
    t.equal(await submit('a1'), 'stored');
    t.equal(await submit('a2'), 'caller_full');
    await runOne(log);
    t.equal(await submit('a2'), 'stored');
  },
};
