// Contract: callers that wait for tasks, at one sidecar or several, and what ends a task that nobody waits for.
import { setTimeout as sleep } from 'node:timers/promises';
import { FencedError } from '../log-errors.ts';
import type { TaskLog } from '../task-log.ts';
import type { NewTask, TaskRecord } from '../task-record.ts';
import { CALLER_LEFT, waiterName } from '../wanted.ts';
import type { Cases } from './cases.ts';
import { abortOf, answer, keyOf, LONG_LEASE_MS, newTask, outcomeOf, runOne } from './logs.ts';

const key = keyOf('a');

/** A caller at a sidecar of its own asks for the task. Returns its name, and the record that it got. */
async function ask(
  log: TaskLog,
  sidecar: string,
  changes: Partial<NewTask> = {},
): Promise<{ readonly waiter: string; readonly record: TaskRecord; readonly outcome: string }> {
  const waiter = waiterName(sidecar, 1);
  const submitted = await log.submit(newTask('a', changes), { joinEndedForMs: 0, waiter });
  if (submitted.outcome === 'refused') throw new Error(submitted.reason);
  return { waiter, record: submitted.record, outcome: outcomeOf(submitted) };
}

const stateOf = async (log: TaskLog): Promise<string | undefined> => (await log.get(key))?.state;

export const waiting: Cases = {
  'a caller that cancels ends its task, but not while others wait, at whichever sidecar': async (t, open) => {
    const [one, two] = [await open({ leaseMs: LONG_LEASE_MS }), await open({ leaseMs: LONG_LEASE_MS })];
    const first = await ask(one, 'one');
    const second = await ask(two, 'two');
    t.strictSame([first.outcome, second.outcome], ['stored', 'joined']);
    await one.leave(key, first.waiter, 'cancelled');
    t.equal(await stateOf(two), 'queued');
    const lease = await runOne(two);
    const third = await ask(one, 'three');
    await two.leave(key, second.waiter, 'cancelled');
    await two.leave(key, second.waiter, 'cancelled');
    await lease.write(1, Buffer.from('it goes on'));
    t.notOk(lease.cancelled.aborted);
    await one.leave(key, third.waiter, 'cancelled');
    t.match(await two.get(key), { state: 'cancelled', cause: CALLER_LEFT, run: 1, generation: 1 });
    const reason = await abortOf(lease.cancelled);
    t.ok(reason instanceof FencedError && reason.because === 'cancelled');
    // A late message says nothing about the task as it was submitted again.
    await ask(one, 'four');
    await one.leave(key, third.waiter, 'cancelled');
    t.match(await two.get(key), { state: 'queued', generation: 2 });
  },

  'callers that join and leave at once end no task under one that waits': async (t, open) => {
    const logs = [await open({ leaseMs: LONG_LEASE_MS }), await open({ leaseMs: LONG_LEASE_MS })];
    await ask(logs[0]!, 'stays');
    const lease = await runOne(logs[1]!);
    const passes = async (at: number): Promise<void> => {
      const log = logs[at % 2]!;
      const { waiter, outcome } = await ask(log, `passes ${at}`);
      t.equal(outcome, 'joined');
      await log.leave(key, waiter, at % 3 === 0 ? 'vanished' : 'cancelled');
    };
    await Promise.all(Array.from({ length: 12 }, (_, at) => passes(at)));
    await lease.extend();
    await lease.settle(answer('the one run'));
    t.match(await logs[0]!.get(key), { state: 'done', run: 1, generation: 1 });
  },

  'a caller that vanishes ends nothing, and keeps nothing alive': async (t, open) => {
    const log = await open({ leaseMs: LONG_LEASE_MS });
    const first = await ask(log, 'one');
    const second = await ask(log, 'two');
    await log.leave(key, first.waiter, 'vanished');
    t.equal(await stateOf(log), 'queued');
    await log.leave(key, second.waiter, 'cancelled');
    t.equal(await stateOf(log), 'cancelled');
    const alone = await ask(log, 'three');
    await log.leave(key, alone.waiter, 'vanished');
    await (await runOne(log)).settle(answer('for who comes back'));
    t.equal(await stateOf(log), 'done');
  },

  'callers of a sidecar that is there count for as long as they wait, and those of a killed one do not':
    async (t, open) => {
      const [short, log] = [await open({ leaseMs: 300 }), await open({ leaseMs: LONG_LEASE_MS })];
      await ask(short, 'there');
      await log.attend('there');
      const second = await ask(log, 'two');
      await sleep(600);
      await log.leave(key, second.waiter, 'cancelled');
      t.equal(await stateOf(log), 'queued', 'it says that it is there');
      await log.cancel(key, 'out of the way');
      await ask(short, 'killed');
      await short.attend('killed');
      const third = await ask(log, 'three');
      await sleep(600);
      await log.leave(key, third.waiter, 'cancelled');
      t.match(await log.get(key), { state: 'cancelled', cause: CALLER_LEFT });
    },

  'a caller that joins moves the deadline of a task that waits or runs, if its own is later': async (
    t,
    open,
  ) => {
    const [one, two] = [await open({ leaseMs: LONG_LEASE_MS }), await open({ leaseMs: LONG_LEASE_MS })];
    const { record } = await ask(one, 'one', { timeLeftMs: 4_000 });
    const lease = await runOne(one);
    const sooner = await ask(two, 'two', { timeLeftMs: 100 });
    t.equal(sooner.record.deadlineAtMs, record.deadlineAtMs);
    const later = await ask(two, 'three', { timeLeftMs: 6_000 });
    t.ok(later.record.deadlineAtMs > record.deadlineAtMs);
    while (two.nowMs() < record.deadlineAtMs + 300) await sleep(20);
    t.notOk(lease.cancelled.aborted, 'the run goes on');
    await lease.extend();
    await abortOf(lease.cancelled);
    const ended = await two.get(key);
    t.match(ended, { state: 'cancelled', run: 1, cause: /deadline/ });
    t.ok(ended!.endedAtMs >= later.record.deadlineAtMs - 1);

    const again = await ask(one, 'one', { timeLeftMs: 3_000 });
    t.equal((await ask(two, 'two')).record.deadlineAtMs, Number.POSITIVE_INFINITY);
    while (one.nowMs() < again.record.deadlineAtMs + 50) await sleep(20);
    await (await runOne(one)).settle(answer('in time'));
    t.match(await two.get(key), { state: 'done', generation: 2 });
  },

  'a task with more callers than it can name goes on whoever leaves': async (t, open) => {
    const log = await open({ leaseMs: LONG_LEASE_MS });
    const waiters: string[] = [];
    for (let at = 0; at < 70; at++) waiters.push((await ask(log, `sidecar ${at}`)).waiter);
    for (const waiter of waiters) await log.leave(key, waiter, 'cancelled');
    t.match(await log.get(key), { state: 'queued', generation: 1 });
  },

  'a submitted task ends with none of its callers, and keeps its own deadline behind them': async (
    t,
    open,
  ) => {
    const [one, two] = [await open({ leaseMs: LONG_LEASE_MS }), await open({ leaseMs: LONG_LEASE_MS })];
    const submit = (timeLeftMs: number) => one.submit(newTask('a', { timeLeftMs }), { joinEndedForMs: 0 });
    await submit(3_600_000);
    const { deadlineAtMs } = (await one.get(key))!;
    const joins = await ask(two, 'two');
    t.equal(joins.record.deadlineAtMs, Number.POSITIVE_INFINITY);
    await two.leave(key, joins.waiter, 'cancelled');
    t.match(await one.get(key), { state: 'queued', deadlineAtMs });
    await one.cancel(key, 'out of the way');

    const waits = await ask(two, 'two', { timeLeftMs: 3_600_000 });
    const lease = await runOne(one);
    await submit(1_500);
    await two.leave(key, waits.waiter, 'cancelled');
    t.equal(await stateOf(one), 'running');
    await abortOf(lease.cancelled);
    t.match(await one.get(key), { state: 'cancelled', cause: /deadline/ });
  },
};
