// Workspaces of runners that share a folder: each has its own, and those of the dead go.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Workspaces } from './workspaces.ts';

t.test('a second runner on the same folder leaves the workspaces of the first alone', async (t) => {
  const path = t.testdir({});
  const settings = { path, maxAgeMs: 60_000, most: 4 };
  const first = new Workspaces(settings);
  const { path: folder } = first.take('task');
  writeFileSync(join(folder, 'keep.txt'), 'precious');

  const all = join(path, 'workspaces');
  const [namespace = ''] = readdirSync(all)[0]!.split('-');
  // A process that has ended, one of another container that is silent, and one that is not.
  const { pid: ended } = spawnSync('true');
  const dead = join(all, `${namespace}-${ended}-${'0'.repeat(16)}`);
  const silent = join(all, `1-1-${'1'.repeat(16)}`);
  const busy = join(all, `1-1-${'2'.repeat(16)}`);
  for (const root of [dead, silent, busy]) mkdirSync(join(root, 'inner'), { recursive: true });
  utimesSync(silent, 1, 1);

  const second = new Workspaces(settings);
  t.ok(existsSync(join(folder, 'keep.txt')));
  t.notOk(existsSync(dead));
  t.notOk(existsSync(silent));
  t.ok(existsSync(busy));
  second.close();
  t.ok(existsSync(join(folder, 'keep.txt')), 'nor does its end');

  rmSync(folder, { recursive: true });
  t.equal(first.take('task').path, folder, 'a folder that is gone is made anew');
  t.ok(existsSync(folder));
  first.close();
  t.notOk(existsSync(folder));
});
