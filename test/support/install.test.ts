// scripts/install.mjs in a small checkout of its own, with an npm that only notes what it was asked.
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { runProcess, startProcess } from '../../scripts/harness/process.ts';

const root = join(import.meta.dirname, '..', '..');

interface Checkout {
  folder: string;
  install(...options: string[]): Promise<{ code: number | NodeJS.Signals; output: string }>;
  /** How often npm was called, and with what. */
  calls(): string[];
  writeLock(version: string): void;
}

function checkout(t: Test, { npmFails = false } = {}): Checkout {
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-install-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  cpSync(join(root, 'scripts'), join(folder, 'scripts'), { recursive: true });
  const bin = join(folder, 'bin');
  mkdirSync(bin);
  const notes = join(folder, 'npm-calls');
  // What `npm ci` leaves: the copy of the lock, written last.
  const work = npmFails
    ? "echo 'npm error code EXAMPLE' >&2; exit 1"
    : 'sleep 0.3; mkdir -p node_modules/.bin; touch node_modules/.bin/node; cp package-lock.json node_modules/.package-lock.json';
  writeFileSync(join(bin, 'npm'), `#!/bin/sh\necho "$*" >> '${notes}'\n${work}\n`);
  chmodSync(join(bin, 'npm'), 0o755);
  const made: Checkout = {
    folder,
    install: (...options) =>
      runProcess(t, process.execPath, [join(folder, 'scripts', 'install.mjs'), ...options], {
        env: { PATH: `${bin}:${process.env['PATH']}` },
        cwd: folder,
      }),
    calls: () => (existsSync(notes) ? readFileSync(notes, 'utf8').trim().split('\n') : []),
    writeLock: (version) =>
      writeFileSync(
        join(folder, 'package-lock.json'),
        JSON.stringify({
          packages: {
            '': { name: 'example' },
            'node_modules/one': { version },
            'node_modules/elsewhere': { version: '1.0.0', optional: true, os: ['no-such-system'] },
          },
        }),
      ),
  };
  made.writeLock('1.0.0');
  return made;
}

t.test('install adds missing node_modules, and again only when the lock has changed', async (t) => {
  const { install, calls, writeLock } = checkout(t);
  const first = await install();
  t.equal(first.code, 0, first.output);
  t.match(first.output, /installing node_modules \(npm ci\)/);
  t.equal(calls().length, 1);
  t.match(calls()[0], /^ci /);

  t.strictSame(await install(), { code: 0, output: '' }, 'nothing to do, nothing to say');
  t.equal(calls().length, 1);

  writeLock('1.0.1');
  t.equal((await install()).code, 0);
  t.equal(calls().length, 2);
});

t.test('install repeats an interrupted install', async (t) => {
  const { folder, install, calls } = checkout(t);
  await install();
  rmSync(join(folder, 'node_modules', '.package-lock.json'));
  t.equal((await install()).code, 0);
  t.equal(calls().length, 2);
});

t.test('two simultaneous installs run once', async (t) => {
  const { folder, install, calls } = checkout(t);
  const both = await Promise.all([install(), install()]);
  t.strictSame(
    both.map(({ code }) => code),
    [0, 0],
  );
  t.equal(calls().length, 1);
  t.notOk(existsSync(join(folder, '.cache', 'install.lock')), 'the lock is gone');
});

t.test('install takes over the lock of a process that has ended', async (t) => {
  const { folder, install, calls } = checkout(t);
  const gone = startProcess(t, process.execPath, ['-e', '']);
  await gone.ended;
  mkdirSync(join(folder, '.cache'));
  for (const left of [`${gone.pid}`, '', 'no number']) {
    rmSync(join(folder, 'node_modules'), { recursive: true, force: true });
    writeFileSync(join(folder, '.cache', 'install.lock'), left);
    t.equal((await install()).code, 0, `after "${left}"`);
  }
  t.equal(calls().length, 3);
});

t.test("if npm fails, install exits with npm's message", async (t) => {
  const { install } = checkout(t, { npmFails: true });
  const { code, output } = await install();
  t.equal(code, 1);
  t.match(output, /npm ci failed, so no script can run yet/);
  t.match(output, /EXAMPLE/);
});

t.test('install names an unreadable lock', async (t) => {
  const { folder, install } = checkout(t);
  writeFileSync(join(folder, 'package-lock.json'), '{');
  const { code, output } = await install();
  t.equal(code, 1);
  t.match(output, /package-lock\.json is missing or broken/);
});
