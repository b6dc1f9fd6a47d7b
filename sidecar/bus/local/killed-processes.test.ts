// Processes that share a task file are killed with -9, again and again: nothing that one of them was told is lost.
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import t from 'tap';
import { startProcess, type TestProcess } from '../../../scripts/harness/process.ts';
import { waitUntil } from '../../../scripts/harness/wait-until.ts';
import { seededRandom } from '../../../test/support/seeded-random.ts';
import { SETTINGS } from '../log/test-support/logs.ts';
import { openLocalTaskLog } from './local-task-log.ts';

const PROCESSES = 3;
const KILLS = 12;

t.setTimeout(290_000);

t.test('each task that was accepted has one result, whichever process is killed', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-tasks-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, 'tasks.db');
  const program = join(import.meta.dirname, 'test-support', 'task-process.ts');
  const lines: string[] = [];
  let started = 0;
  const start = (): TestProcess => {
    const process_ = startProcess(t, process.execPath, [program, file, `process ${++started}`]);
    let rest = '';
    process_.child.stdout!.on('data', (text: string) => {
      // A line that the kill has cut was not said.
      const parts = (rest + text).split('\n');
      rest = parts.pop()!;
      lines.push(...parts);
    });
    return process_;
  };
  const processes = Array.from({ length: PROCESSES }, start);
  const random = seededRandom(19);
  for (let kill = 0; kill < KILLS; kill++) {
    const before = lines.length;
    const progress = 20 + Math.floor(random() * 40);
    await waitUntil('the processes get on', () => lines.length >= before + progress || failed(processes), {
      everyMs: 1,
    });
    const at = Math.floor(random() * PROCESSES);
    processes[at]!.kill('SIGKILL');
    t.equal(await processes[at]!.ended, 'SIGKILL', 'it ran until then');
    processes[at] = start();
  }
  for (const process_ of processes) await waitUntil('it has begun', () => process_.logs() !== '');
  for (const process_ of processes) t.equal(await process_.stop(), 0, 'it ended by itself');

  const said = (what: string): string[][] =>
    lines.filter((line) => line.startsWith(`${what} `)).map((line) => line.split(' '));
  const stored = said('stored');
  const settled = said('settled');
  t.ok(stored.length > 100 && settled.length > 100, `${stored.length} stored, ${settled.length} settled`);
  t.equal(new Set(settled.map(([, key]) => key)).size, settled.length, 'no task was settled twice');
  const log = await openLocalTaskLog(file, SETTINGS);
  t.teardown(() => log.close());
  const wrong: unknown[] = [];
  let lostRuns = 0;
  for (const [, key] of stored) {
    const record = await log.get(key!);
    lostRuns += record?.lostRuns ?? 0;
    if (record?.state !== 'done' || record.run !== record.lostRuns + 1) wrong.push(record ?? key);
  }
  t.strictSame(wrong, []);
  for (const [what, key, ...text] of [...settled, ...said('watched')]) {
    const record = await log.get(key!);
    if (String(record?.result?.short) !== text.join(' ')) wrong.push([what, key, text, record]);
  }
  t.strictSame(wrong, [], 'who was told of a result was told the one that is stored');
  t.ok(lostRuns <= KILLS * 4, `${lostRuns} runs were lost, at most those that the killed ones held`);
  t.strictSame(
    (await log.status()).filter(({ queued, running, dead }) => queued + running + dead > 0),
    [],
  );
  const db = new DatabaseSync(file, { readOnly: true });
  t.strictSame({ ...db.prepare('PRAGMA integrity_check').get() }, { integrity_check: 'ok' });
  db.close();
  for (const suffix of ['', '-wal', '-shm', '-wake'])
    t.equal(statSync(file + suffix).mode & 0o777, 0o600, `tasks.db${suffix}`);
  t.comment(
    `${stored.length} tasks, ${KILLS} kills, ${lostRuns} runs lost, ${statSync(`${file}-wal`).size} bytes of WAL`,
  );
});

/** Whether a process has ended by itself: then waiting for it is of no use. */
function failed(processes: readonly TestProcess[]): boolean {
  return processes.some(({ child }) => child.exitCode !== null);
}
