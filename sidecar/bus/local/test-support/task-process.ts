// A process that submits tasks to a file, runs tasks of it, and says on standard output what the log has acknowledged:
//
//     node task-process.ts FILE NAME
//
// `stored KEY`, `settled KEY TEXT`, `watched KEY TEXT`. SIGTERM makes it submit no more and end when nothing is left.
import { writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { FencedError } from '../../log/log-errors.ts';
import { answer, JOIN, keyOf, newTask, SETTINGS } from '../../log/test-support/logs.ts';
import { openLocalTaskLog } from '../local-task-log.ts';

const [file = '', name = ''] = process.argv.slice(2);
const log = await openLocalTaskLog(file, { ...SETTINGS, leaseMs: 3_000, maxRuns: 100 });
const say = (line: string): void => void writeSync(1, `${line}\n`);

let submits = true;
process.on('SIGTERM', () => {
  submits = false;
});
const idle = new AbortController();

async function submitter(number: number): Promise<void> {
  for (let count = 0; submits; count++) {
    const task = `${name} ${number} ${count}`;
    const submitted = await log.submit(newTask(task, { caller: name }), JOIN);
    if (submitted.outcome === 'refused') throw new Error(submitted.reason);
    say(`stored ${keyOf(task)}`);
    for await (const event of log.watch(keyOf(task), 0, idle.signal)) {
      if (event.kind === 'state' && event.record.state === 'done')
        say(`watched ${keyOf(task)} ${String(event.record.result?.short)}`);
    }
  }
}

async function consumer(number: number): Promise<void> {
  for (;;) {
    const lease = await log.take(['research'], `${name} ${number}`, idle.signal);
    if (lease === undefined) return;
    const { key, run } = lease.record;
    try {
      await lease.begin();
      await lease.write(1, Buffer.from(`chunk of run ${run}`));
      await sleep(2);
      const text = `by ${name} ${number} in run ${run}`;
      await lease.settle(answer(text));
      say(`settled ${key} ${text}`);
    } catch (error) {
      if (!(error instanceof FencedError)) throw error;
    }
  }
}

const consumers = [1, 2, 3, 4].map(consumer);
await Promise.all([1, 2, 3, 4].map(submitter));
for (;;) {
  const left = (await log.status()).reduce((sum, { queued, running }) => sum + queued + running, 0);
  if (left === 0) break;
  await sleep(20);
}
idle.abort();
await Promise.all(consumers);
await log.close();
