// Both stores of the journal keep one contract: what a run has stored, the next one finds, and a late run changes nothing.
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { skipWithout } from '../../scripts/harness/tool.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { permissionsText } from '../bus/nats/permissions.ts';
import { startNats } from '../bus/nats/test-support/nats-server.ts';
import { openFileStore } from './file/file-store.ts';
import { openNatsStore } from './nats/nats-store.ts';
import type { JournalStore, StoreLimits } from './record/journal-store.ts';
import { StandingStore } from './standing-store.ts';

const LIMITS: StoreLimits = { maxAgeMs: 60_000, maxBytes: 64 << 20 };
type Open = (limits?: Partial<StoreLimits>) => Promise<JournalStore>;

const placesOf = ({ kept }: { readonly kept: readonly { readonly place: string }[] }): string[] =>
  kept.map(({ place }) => place);

async function keepsContract(t: Test, openStore: Open): Promise<void> {
  const open: Open = async (limits) => {
    const store = await openStore(limits);
    t.teardown(() => store.close());
    return store;
  };
  const [one, other] = [await open(), await open()];

  await t.test('a later run finds what earlier ones have stored, in another process too', async (t) => {
    const first = await one.begin('task');
    t.same(first.kept, []);
    t.match(await one.write('task', first.run, 'a.0', Buffer.from('first')), { outcome: 'stored' });
    t.match(await one.write('task', first.run, 'b.0', Buffer.from('second')), { outcome: 'stored' });
    t.match(await one.write('task', first.run, 'a.0', Buffer.from('again')), { outcome: 'stored' });
    t.same((await one.begin('another-task')).kept, []);
    const second = await other.begin('task');
    t.same(placesOf(second).sort(), ['a.0', 'b.0']);
    const [b, a] = second.kept;
    t.equal(String(await other.read('task', a!.reference)), 'again', 'the latest answer of a place counts');
    t.equal(String(await other.read('task', b!.reference)), 'second');
    t.ok(b!.bytes >= 6);
  });

  await t.test('what a late run writes is void, also for the runs after', async (t) => {
    const late = await one.begin('late');
    const next = await other.begin('late');
    await one.write('late', late.run, 'a.0', Buffer.from('late'));
    await other.write('late', next.run, 'a.0', Buffer.from('right'));
    await one.write('late', late.run, 'a.0', Buffer.from('later still'));
    const its = await one.write('late', late.run, 'b.0', Buffer.from('late'));
    await one.drop('late', late.run, its.outcome === 'stored' ? its.reference : 0);
    const last = await one.begin('late');
    t.same(placesOf(last), ['a.0']);
    t.equal(String(await one.read('late', last.kept[0]!.reference)), 'right');
  });

  await t.test('the end of a task removes its answers, and a run of before adds none', async (t) => {
    const run = await one.begin('ended');
    const stored = await one.write('ended', run.run, 'a.0', Buffer.from('x'));
    const reference = stored.outcome === 'stored' ? stored.reference : 0;
    await one.drop('ended', run.run, reference);
    t.equal(await one.read('ended', reference), undefined);
    await one.write('ended', run.run, 'b.0', Buffer.from('late'));
    t.same((await other.begin('ended')).kept, []);
  });

  await t.test('answers of every size come back whole', async (t) => {
    const run = await one.begin('sizes');
    const sizes = [0, 1, 100_000, 1_048_576, 5_000_000];
    const bodies = sizes.map((size) => Buffer.alloc(size, size % 251));
    for (const [index, body] of bodies.entries()) await one.write('sizes', run.run, `${index}.0`, body);
    for (const { place, reference } of (await other.begin('sizes')).kept) {
      const body = bodies[Number.parseInt(place, 10)]!;
      t.ok((await other.read('sizes', reference))?.equals(body), `${body.length} bytes`);
    }
  });
}

t.test('a file', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-journal-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, 'deeper', 'journal.db');
  await keepsContract(t, (limits) => openFileStore(path, { ...LIMITS, ...limits }));
  t.equal(statSync(path).mode & 0o777, 0o600);
  t.equal(statSync(join(folder, 'deeper')).mode & 0o777, 0o700);

  await t.test('the tasks that were used longest ago make room, and age ends answers', async (t) => {
    const small = await openFileStore(join(folder, 'small.db'), { ...LIMITS, maxBytes: 10_000 });
    t.teardown(() => small.close());
    const body = Buffer.alloc(3_000);
    for (const task of ['one', 'two', 'three', 'four']) {
      const { run } = await small.begin(task);
      t.match(await small.write(task, run, 'a.0', body), { outcome: 'stored' });
    }
    t.same((await small.begin('one')).kept, []);
    t.same(placesOf(await small.begin('four')), ['a.0']);
    t.match(await small.write('four', (await small.begin('four')).run, 'b.0', Buffer.alloc(20_000)), {
      outcome: 'full',
    });
    const young = await openFileStore(join(folder, 'small.db'), { ...LIMITS, maxAgeMs: 1 });
    t.teardown(() => young.close());
    t.same((await young.begin('four')).kept, []);
  });

  await t.test('a store whose thread has ended is opened anew, and has its answers', async (t) => {
    const path = join(folder, 'again.db');
    const said: string[] = [];
    const standing = new StandingStore((connected, because) => said.push(connected ? 'connected' : because));
    t.teardown(() => standing.close());
    let opened: JournalStore | undefined;
    standing.use(async () => {
      opened = await openFileStore(path, LIMITS);
      return opened;
    });
    const { run } = await standing.begin('task');
    await standing.write('task', run, 'a.0', Buffer.from('x'));
    // The thread ends; what had asked for it does not know.
    await opened!.close();
    await waitUntil('it is opened anew', () => said.length === 3);
    t.same(said, ['connected', "the journal's thread has ended", 'connected']);
    t.same(placesOf(await standing.begin('task')), ['a.0']);
  });

  await t.test('a folder or a device is refused with what to do, and keeps its mode', async (t) => {
    chmodSync(folder, 0o755);
    await t.rejects(openFileStore(folder, LIMITS), /^journal.store: .* is a folder: name a file in it/);
    t.equal(statSync(folder).mode & 0o777, 0o755);
    const link = join(folder, 'link.db');
    symlinkSync('/dev/null', link);
    await t.rejects(openFileStore(link, LIMITS), /link.db is not a regular file \(a device\)/);
    t.equal(statSync('/dev/null').mode & 0o777, 0o666);
  });

  await t.test('another program’s file is refused with what to do', async (t) => {
    const { DatabaseSync } = await import('node:sqlite');
    const foreign = join(folder, 'foreign.db');
    new DatabaseSync(foreign).exec('CREATE TABLE theirs (id INTEGER)');
    await t.rejects(openFileStore(foreign, LIMITS), /file of another program.*name a file of its own/);
    t.ok(readFileSync(foreign).includes('theirs'));
  });
});

const skip = skipWithout('nats-server');
t.test('NATS', { skip }, async (t) => {
  const server = await startNats(t);
  const open: Open = (limits) =>
    openNatsStore({
      name: 'research',
      servers: [server.address],
      replicas: 1,
      limits: { ...LIMITS, ...limits },
    });
  await keepsContract(t, open);

  await t.test('a server that is away is said, and comes back', async (t) => {
    const store = await open();
    t.teardown(() => store.close());
    const { run } = await store.begin('kept');
    await store.write('kept', run, 'a.0', Buffer.from('x'));
    await server.kill();
    await waitUntil('it is noticed', () => !store.connected);
    t.match(store.problem, /can't be reached/);
    await t.rejects(store.begin('kept'));
    await server.restart();
    await waitUntil('it is back', () => store.connected);
    t.same(placesOf(await store.begin('kept')), ['a.0']);
  });

  await t.test('with the printed rules, a sidecar reads the answers of its own name alone', async (t) => {
    const rules = permissionsText({
      publisher: 'research',
      publishes: [],
      takes: ['research'],
      keepsAnswers: true,
    });
    const ruled = await startNats(
      t,
      `authorization { users: [
      { user: operator, password: o }
      { user: research, password: r, ${rules.replace(/^#.*$/m, '')} }
    ] }`,
    );
    const openAs = async (name: string, user: { name: string; password: string }) => {
      const store = await openNatsStore({
        name,
        servers: [ruled.address],
        replicas: 1,
        limits: LIMITS,
        user,
        publisher: user.name === 'operator' ? undefined : user.name,
      });
      t.teardown(() => store.close());
      return store;
    };
    for (const name of ['research', 'writing']) await openAs(name, { name: 'operator', password: 'o' });
    const own = await openAs('research', { name: 'research', password: 'r' });
    const { run } = await own.begin('task');
    t.match(await own.write('task', run, 'a.0', Buffer.from('x')), { outcome: 'stored' });
    const { kept } = await own.begin('task');
    t.equal(String(await own.read('task', kept[0]!.reference)), 'x');
    await t.rejects(
      openAs('writing', { name: 'research', password: 'r' }),
      /forbids|refuses|can't be reached/,
    );
  });
});
