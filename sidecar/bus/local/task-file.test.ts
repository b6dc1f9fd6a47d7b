// The file of the embedded log: how it is made, what it refuses, and what its troubles look like.
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { Worker } from 'node:worker_threads';
import t, { type Test } from 'tap';
import { runProcess } from '../../../scripts/harness/process.ts';
import { waitUntil } from '../../../scripts/harness/wait-until.ts';
import { LogSetupError, LogUnavailableError } from '../log/log-errors.ts';
import type { TaskLog } from '../log/task-log.ts';
import {
  abortOf,
  answer,
  errorOf,
  JOIN,
  keyOf,
  LONG_LEASE_MS,
  newTask,
  outcomeOf,
  runOne,
  SETTINGS,
  store,
  takeOne,
  Watcher,
} from '../log/test-support/logs.ts';
import { submitInTime } from '../publisher/submission.ts';
import { openLocalTaskLog } from './local-task-log.ts';
import { LogClock } from './log-clock.ts';
import { networkFileSystem } from './network-file-system.ts';
import { openFile } from './open-file.ts';
import { SCHEMA_VERSION } from './schema.ts';
import { TaskFile } from './task-file.ts';

t.jobs = 4;
t.setTimeout(290_000);

async function open(t: Test, file: string, settings = {}): Promise<TaskLog> {
  const log = await openLocalTaskLog(file, { ...SETTINGS, leaseMs: LONG_LEASE_MS, ...settings });
  t.teardown(() => log.close());
  return log;
}

/** The message with which the file is refused. */
async function refusal(file: string): Promise<string> {
  const error = await errorOf(openLocalTaskLog(file, SETTINGS));
  if (!(error instanceof LogSetupError)) throw error;
  return error.message;
}

t.test('the folder and the files are made for their user alone, whatever their names', async (t) => {
  const file = join(t.testdir(), 'a', 'new folder', `täsks '";%20?#&=.db`);
  // Several at once: each finds the file whole.
  const logs = await Promise.all([1, 2, 3, 4].map(() => open(t, file)));
  for (const [at, log] of logs.entries()) await store(log, newTask(`a${at}`));
  t.match(await logs[0]!.status(), [{ queued: 4 }]);
  t.equal(statSync(join(file, '..')).mode & 0o777, 0o700);
  for (const suffix of ['', '-wal', '-shm', '-wake'])
    t.equal(statSync(file + suffix).mode & 0o777, 0o600, suffix);
  for (const log of logs) await log.close();
  chmodSync(file, 0o644);
  const again = await open(t, file);
  t.equal(statSync(file).mode & 0o777, 0o600, 'others may read it no longer');
  t.match(await again.status(), [{ queued: 4 }], 'its tasks are there');
});

t.test('what is no task file of this version is refused, and left as it is', async (t) => {
  const folder = t.testdir({ 'text.db': 'a'.repeat(10_000), folder: {}, plain: 'x' });
  t.match(await refusal(join(folder, 'text.db')), /is no task file, or is damaged .* move it .* away/);
  t.equal(readFileSync(join(folder, 'text.db'), 'utf8'), 'a'.repeat(10_000));
  t.match(await refusal(join(folder, 'plain', 'tasks.db')), /can't open .*plain/);

  const other = new DatabaseSync(join(folder, 'other.db'));
  other.exec('CREATE TABLE notes (text TEXT)');
  other.close();
  t.match(await refusal(join(folder, 'other.db')), /SQLite file of another program/);
  t.notOk(existsSync(join(folder, 'other.db-wal')), 'no mode of it is changed');

  const file = join(folder, 'tasks.db');
  await (await open(t, file)).close();
  const newer = new DatabaseSync(file);
  newer.exec('PRAGMA user_version = 1000');
  newer.close();
  t.match(await refusal(file), /written by a newer Outrigger .*update this Outrigger/);
  const back = new DatabaseSync(file);
  t.match(back.prepare('PRAGMA user_version').get(), { user_version: 1000 });
  back.exec('PRAGMA user_version = 1');
  t.match(await refusal(file), /has tables of version 1, .*name another file/);
  back.exec(`PRAGMA user_version = ${SCHEMA_VERSION}`);
  back.close();

  const log = await open(t, file);
  await store(log, ...Array.from({ length: 50 }, (_, at) => newTask(`a${at}`)));
  await log.close();
  const bytes = readFileSync(file);
  bytes.fill(0x5a, 4_096);
  writeFileSync(file, bytes);
  t.match(await refusal(file), /is damaged .* move it and its -wal and -shm away/);
});

t.test('a file that was damaged is said to be at once, with its name and what to do', async (t) => {
  const file = join(t.testdir(), 'tasks.db');
  const before = await open(t, file);
  await store(before, newTask('a'));
  await before.close();
  const db = new DatabaseSync(file);
  const { rootpage } = db.prepare("SELECT rootpage FROM sqlite_schema WHERE name = 'requests'").get() as {
    rootpage: number;
  };
  db.close();
  const bytes = readFileSync(file);
  bytes.fill(0x5a, (rootpage - 1) * 4_096, rootpage * 4_096);
  writeFileSync(file, bytes);
  const log = await open(t, file);
  const said = { isFinal: true, isOutcomeUnknown: false };
  const tellsWhat = (error: unknown): boolean =>
    String(error).includes(file) && /move it/.test(String(error));
  const error = await errorOf(log.submit(newTask('b'), JOIN));
  t.match(error, said);
  t.ok(tellsWhat(error), String(error));
  // A submit without a deadline would try for half a minute.
  const submission = await submitInTime(log, newTask('c'), JOIN, () => Number.POSITIVE_INFINITY);
  t.match(submission, { refusal: { reason: 'bus_unavailable' } });
  t.ok('refusal' in submission && tellsWhat(submission.refusal.message));
  const take = await errorOf(log.take(['research'], 'holder', AbortSignal.timeout(60_000)));
  t.match(take, said);
});

t.test('what is no regular file is refused, and keeps its mode', async (t) => {
  const folder = t.testdir({ folder: {}, 'plain.db': '' });
  const at = (name: string): string => join(folder, name);
  chmodSync(at('folder'), 0o755);
  symlinkSync(at('folder'), at('to-folder'));
  symlinkSync(at('nothing'), at('to-nothing'));
  execFileSync('mkfifo', ['-m', '0644', at('pipe')]);
  symlinkSync(at('pipe'), at('to-pipe'));
  for (const name of ['folder', 'folder/', 'to-folder'])
    t.match(await refusal(at(name)), new RegExp(`^bus.url: .*${name} is a folder: name a file in it`));
  for (const name of ['pipe', 'to-pipe'])
    t.match(await refusal(at(name)), new RegExp(`^bus.url: .*${name} is not a regular file \\(a pipe`));
  t.match(await refusal('/dev/null'), /is not a regular file \(a device\): name a file on a disk/);
  t.match(await refusal(at('to-nothing')), /is a link to a file that doesn't exist: remove the link/);
  t.equal(statSync(at('folder')).mode & 0o777, 0o755);
  t.equal(statSync(at('pipe')).mode & 0o777, 0o644);
  t.equal(statSync('/dev/null').mode & 0o777, 0o666);
  t.notOk(existsSync(at('nothing')));

  for (const suffix of ['-wal', '-wake']) {
    const file = at(`beside${suffix}.db`);
    symlinkSync(at('pipe'), file + suffix);
    t.match(await refusal(file), new RegExp(`${suffix} is not a regular file`));
  }
  t.equal(statSync(at('pipe')).mode & 0o777, 0o644, 'nor is what lies beside a file');

  symlinkSync(at('plain.db'), at('to-plain.db'));
  const log = await open(t, at('to-plain.db'));
  t.match(await log.status(), [], 'a link to a file is one');
});

t.test('a folder that may not be written is refused', async (t) => {
  if (process.getuid?.() === 0) return t.comment('root may write everywhere');
  const folder = join(t.testdir({ closed: {} }), 'closed');
  chmodSync(folder, 0o500);
  t.match(await refusal(join(folder, 'tasks.db')), /can't open .*EACCES.* needs to write/);
});

t.test('a network file system is told from a disk', async (t) => {
  const folder = t.testdir({ 'with blank': {} });
  const mounts = (kind: string, point = folder): string =>
    `/dev/sda / ext4 rw 0 0\nx ${point} ${kind} rw 0 0\n`;
  for (const kind of ['nfs4', 'cifs', '9p', 'fuse.sshfs', 'ceph'])
    t.equal(networkFileSystem(folder, mounts(kind)), kind);
  for (const kind of ['ext4', 'tmpfs', 'overlay', 'xfs', 'fuse.bindfs'])
    t.equal(networkFileSystem(folder, mounts(kind)), undefined);
  t.equal(networkFileSystem(folder, mounts('nfs', `${folder}/other`)), undefined, 'another folder');
  t.equal(
    networkFileSystem(folder, `${mounts('nfs')}y ${folder} tmpfs rw 0 0\n`),
    undefined,
    'the mount on top',
  );
  const blank = `${folder}/with\\040blank`;
  t.equal(networkFileSystem(`${folder}/with blank`, mounts('nfs', blank)), 'nfs');
  t.equal(networkFileSystem(folder), undefined, 'this machine');
});

t.test('a full disk refuses submits and fails results, and loses nothing it has confirmed', async (t) => {
  const folder = t.testdir();
  const script = 'mount -t tmpfs -o size=6m tmpfs "$0" && exec "$@"';
  const within = ['--map-root-user', '--mount', 'sh', '-c', script, folder];
  const { status, stderr } = spawnSync('unshare', [...within, 'true'], { encoding: 'utf8' });
  if (status !== 0) return t.comment(`skipped: no mount namespace: ${stderr}`);
  const program = join(import.meta.dirname, 'test-support', 'full-disk-process.ts');
  const args = [...within, process.execPath, program, join(folder, 'tasks.db')];
  const { code, output } = await runProcess(t, 'unshare', args);
  t.equal(code, 0, output);
  t.match(output, /^\d\d+ stored, all there: true, connected: true$/m);
  t.match(output, /^settle: true .*the disk of the task file .*tasks\.db is full: make room on it$/m);
  t.match(output, /^settled: small, all there: true$/m);
});

t.test('values that the file can not store fail their own request, and no other', async (t) => {
  const log = await open(t, join(t.testdir(), 'tasks.db'));
  const changes: boolean[] = [];
  log.onConnected = (connected) => changes.push(connected);
  const [wrong, right] = await Promise.all([
    errorOf(log.submit({ ...newTask('a'), timeLeftMs: 1e300 }, JOIN)),
    log.submit(newTask('b'), JOIN),
  ]);
  t.match(wrong, { name: 'UnstorableError', isSafeToRetry: false });
  t.equal(outcomeOf(right), 'stored', 'in the same transaction');
  t.match(await errorOf(log.submit({ ...newTask('c'), timeLeftMs: 2 ** 54 }, JOIN)), {
    name: 'UnstorableError',
  });
  t.equal(outcomeOf(await log.submit(newTask('d'), JOIN)), 'stored');
  t.equal(log.connected, true);
  t.strictSame(changes, []);
});

t.test('a file that another process has locked fails after a while, and this thread goes on', async (t) => {
  const file = join(t.testdir(), 'tasks.db');
  const log = await open(t, file);
  const changes: boolean[] = [];
  log.onConnected = (connected) => changes.push(connected);
  const db = new DatabaseSync(file);
  t.teardown(() => db.close());
  db.exec('BEGIN IMMEDIATE');
  const failing = errorOf(log.submit(newTask('a'), JOIN));
  let turns = 0;
  const timer = setInterval(() => turns++, 10);
  const error = await failing;
  clearInterval(timer);
  t.ok(error instanceof LogUnavailableError && !error.isOutcomeUnknown, String(error));
  t.match(error, { message: /locked/ });
  t.ok(turns > 10, `${turns} turns meanwhile`);
  await waitUntil('the log says so', () => changes.length > 0);
  t.equal(log.connected, false);
  t.match(await errorOf(log.get(keyOf('a'))), { name: 'LogUnavailableError', message: /locked/ });
  db.exec('ROLLBACK');
  await waitUntil('it is back', () => log.connected);
  t.strictSame(changes, [false, true]);
  t.equal(outcomeOf(await log.submit(newTask('a'), JOIN)), 'stored');
});

t.test('a thread that ends is begun again, and the leases of its process hold on', async (t) => {
  const file = join(t.testdir(), 'tasks.db');
  const [log, other] = [await open(t, file), await open(t, file)];
  const changes: boolean[] = [];
  log.onConnected = (connected) => changes.push(connected);
  await store(log, newTask('a'), newTask('b', { agentType: 'writing' }), newTask('c'));
  const [first, second] = [await runOne(log), await runOne(log)];
  const watcher = new Watcher(log, keyOf('b'));
  await watcher.until('queued 0');
  const wait = errorOf(log.take(['code'], 'holder', new AbortController().signal));
  await (log as unknown as { link: { worker: Worker } }).link.worker.terminate();
  t.ok((await errorOf(watcher.ended)) instanceof LogUnavailableError);
  t.ok((await wait) instanceof LogUnavailableError);
  await other.cancel(second.record.key, 'meanwhile');
  await waitUntil('there is another thread', () => log.connected);
  t.strictSame(changes, [false, true]);
  await first.extend();
  await first.settle(answer('end'));
  t.match(await other.get(keyOf('a')), { state: 'done', run: 1, lostRuns: 0 });
  t.match(await abortOf(second.cancelled), { because: 'cancelled' }, 'what it missed is told');
  t.equal((await takeOne(log, 'holder', ['writing'])).record.key, keyOf('b'));
});

t.test('the write-ahead log stays small, and the file gives back what was deleted', async (t) => {
  const file = join(t.testdir(), 'tasks.db');
  const [log, other] = [await open(t, file), await open(t, file)];
  const sizeOf = (path: string): number => statSync(path).size;
  const names = Array.from({ length: 20 }, (_, at) => `a${at}`);
  await store(log, ...names.map((name) => newTask(name)));
  const watchers = names.map((name) => new Watcher(other, keyOf(name)));
  const payload = Buffer.alloc(256 << 10, 'x');
  let [logBytes, fileBytes] = [0, 0];
  const measure = (): void => {
    logBytes = Math.max(logBytes, sizeOf(`${file}-wal`));
    fileBytes = Math.max(fileBytes, sizeOf(file));
  };
  for (const _ of names) {
    const lease = await runOne(log);
    for (let chunk = 0; chunk < 4; chunk++) await lease.write(1, payload);
    await lease.settle(answer('end'));
    measure();
  }
  await Promise.all(watchers.map(({ ended }) => ended));
  measure();
  const db = new DatabaseSync(file);
  db.exec('UPDATE tasks SET due_at = 1');
  db.close();
  await waitUntil('the file is smaller', () => sizeOf(file) < fileBytes / 2);
  t.ok(logBytes < 32 << 20, `${logBytes} bytes`);
  t.comment(`20 MiB written: ${logBytes} bytes of write-ahead log and ${fileBytes} of the file at most`);
});

t.test('a watcher ends with a task that was forgotten before it looked', async (t) => {
  const file = join(t.testdir(), 'tasks.db');
  const [log, other] = [await open(t, file), await open(t, file)];
  await store(log, newTask('a'));
  const watcher = new Watcher(other, keyOf('a'));
  await watcher.until('queued 0');
  const db = new DatabaseSync(file);
  db.exec('DELETE FROM tasks');
  db.close();
  await watcher.ended;
  t.strictSame(watcher.texts, ['queued 0']);
});

t.test('a file that is moved away is followed by a new one', async (t) => {
  const file = join(t.testdir(), 'tasks.db');
  const log = await open(t, file);
  await store(log, newTask('a'));
  const other = await open(t, file);
  for (const suffix of ['', '-wal', '-shm']) renameSync(file + suffix, `${file}-old${suffix}`);
  await waitUntil('there is a new file', async () => (await log.list({ limit: 1 })).records.length === 0);
  await store(log, newTask('a'));
  await waitUntil('the other one has it, too', async () => (await other.get(keyOf('a'))) !== undefined);
  t.equal((await takeOne(other)).record.generation, 1);
});

t.test('the clock of a file never goes back, and leases survive when it goes forward', async (t) => {
  const file = join(t.testdir(), 'tasks.db');
  let [wallMs, steadyMs] = [1_800_000_000_000, 5_000];
  const pass = (ms: number): void => {
    wallMs += ms;
    steadyMs += ms;
  };
  const process_ = async (): Promise<TaskFile> => {
    const clock = new LogClock(
      () => wallMs,
      () => steadyMs,
    );
    const one = new TaskFile(file, await openFile(file), SETTINGS, clock);
    t.teardown(() => one.close());
    return one;
  };
  const timeOf = (one: TaskFile): number => one.write(() => one.nowMs);
  const [tasks, other] = [await process_(), await process_()];
  t.equal(timeOf(tasks), wallMs);
  const start = wallMs;
  wallMs -= 3_600_000;
  pass(10);
  t.equal(timeOf(tasks), start + 10, 'the wall clock was set back');
  t.equal(timeOf(other), start + 10, 'another process has the same time');
  t.equal(timeOf(await process_()), start + 10, 'who comes later, too');
  tasks.write(() => {
    tasks.run("INSERT INTO consumers VALUES ('one', '', '', '[]', 1, ?)", tasks.nowMs + 1_000);
  });
  wallMs += 3 * 3_600_000;
  pass(10);
  t.equal(timeOf(other), wallMs, 'the wall clock was set forward');
  t.equal(timeOf(tasks), wallMs);
  const expiry = tasks.read(
    () => tasks.get<{ expires_at: number }>('SELECT expires_at FROM consumers')!.expires_at,
  );
  t.equal(expiry, wallMs + 990, 'what was to end in a second still is');
  // The machine has booted: its steady clock began anew, and its wall clock is wrong.
  const last = timeOf(tasks);
  tasks.write(() => tasks.run("UPDATE log SET clock_boot = 'another'"));
  [wallMs, steadyMs] = [start, 1_000];
  const booted = await process_();
  t.equal(timeOf(booted), last);
  pass(10);
  t.equal(timeOf(booted), last + 10);
});
