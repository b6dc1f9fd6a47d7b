// Attacks the sandbox of the tool runner behind each kind of walls, and without any, where the same attacks have to succeed.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { attacks } from '../agents/tools/sandbox/attacks.ts';
import { layOut } from '../agents/tools/sandbox/canary.ts';
import { layWalls, removeWalls } from '../agents/tools/sandbox/lay-walls.ts';
import { foreignRuntime } from '../agents/tools/sandbox/runtime.ts';
import { attackSandbox, attackWalls } from '../agents/tools/sandbox/self-attack.ts';
import type { Walls } from '../agents/tools/sandbox/tiers.ts';
import { giveToRuns } from '../agents/tools/sandbox/workspaces.ts';
import { requireTool, skipWithout } from '../scripts/harness/tool.ts';
import { folderForRuns } from './support/tool-runner.ts';

// gVisor takes its time on a busy machine.
t.setTimeout(150_000);
const skip =
  skipWithout('bwrap', 'confine') || (process.getuid?.() !== 0 && 'needs root to become another user');

const gvisor = ['--platform=ptrace', '--network=none', 'do'];

/** gVisor's old package does not start on every kernel. */
function withoutGvisor(): string | false {
  const missing = skipWithout('runsc');
  if (missing) return missing;
  const tried = spawnSync(requireTool('runsc'), [...gvisor, '/bin/true'], { timeout: 20_000 });
  return tried.status !== 0 && 'gVisor does not start here';
}

t.test('each wall holds the attacks that it promises to hold', { skip }, async (t) => {
  const { folder, confine } = folderForRuns(t);
  const programs = { confine, bubblewrap: requireTool('bwrap') };
  for (const walls of ['namespaces', 'landlock', 'bare'] satisfies Walls[]) {
    const made = walls === 'namespaces' ? await layWalls(programs, folder) : programs;
    const { held, broken, problem } = await attackWalls(walls, made, folder);
    removeWalls(made);
    t.equal(problem, undefined, walls);
    t.same([...held, ...broken].sort(), attacks.map(({ name }) => name).sort(), 'every attack was made');
    const promised = attacks.filter(({ heldBy }) => heldBy.includes(walls)).map(({ name }) => name);
    t.same(
      promised.filter((name) => !held.includes(name)),
      [],
      `${walls} keeps its promises`,
    );
    if (walls === 'namespaces') t.ok(promised.length >= 30, `${promised.length} attacks are held`);
  }
});

t.test('the same attacks succeed where there are no walls', { skip }, async (t) => {
  const { folder, confine } = folderForRuns(t);
  const workspace = join(folder, 'workspace');
  mkdirSync(workspace);
  giveToRuns(workspace);
  const canary = await layOut(confine, folder);
  t.teardown(() => canary.close());
  const made = spawnSync(confine, ['probe', '--workspace', workspace, ...canary.arguments], {
    uid: 15000,
    gid: 15000,
    env: { PATH: '/usr/bin', OUTRIGGER_CANARY: 'x' },
    encoding: 'utf8',
    timeout: 20_000,
  });
  const arrived = await canary.arrived();
  const held = made.stdout
    .split('\n')
    .flatMap((line) => (line.endsWith(' held') ? [line.split(' ')[0]!] : []));
  // What the user 15000 may not do anyway. The last line depends on the machine: its kernel, and the networks it knows.
  const always = new Set([
    ...[
      'write-system',
      'fill-memory-disk',
      'kernel-settings',
      'devices',
      'make-device',
      'mount',
      'new-mount',
    ],
    ...[
      'change-root',
      'enter-namespace',
      'init-memory',
      'capabilities',
      'inherited-descriptors',
      'signal-all',
    ],
    ...['mount-proc', 'enter-by-pidfd', 'parent-memory', 'secret-memory', 'asynchronous-requests'],
    ...[
      'perf-events',
      'userfaultfd',
      '32-bit-calls',
      'io-uring',
      'connect-tcp6',
      'internet',
      'metadata-address',
    ],
  ]);
  t.same(
    held.filter((name) => !always.has(name)),
    [],
  );
  t.match(arrived, ['signal-all', 'signal-process', 'connect-tcp']);
});

t.test(
  'the strongest walls that hold are used, and the reason is named where weaker ones are',
  { skip },
  async (t) => {
    const { folder, confine } = folderForRuns(t);
    const best = await attackSandbox({ confine, bubblewrap: requireTool('bwrap') }, folder);
    t.match(best, { tier: 'namespaces', walls: 'namespaces', notHeld: [], problems: [] });

    // Sandboxes that silently are none: one builds no walls, the other leaves a hole in them.
    const pretend = async (name: string, script: string) => {
      const bubblewrap = join(folder, name);
      writeFileSync(bubblewrap, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
      return attackSandbox({ confine, bubblewrap }, folder);
    };
    const none = 'echo "{ \\"child-pid\\": $$ }" >&3; while [ "$1" != -- ]; do shift; done';
    const fooled = await pretend('pretender', `${none}; exec ${confine} hold`);
    t.match(fooled, {
      tier: 'landlock',
      walls: 'landlock',
      problems: [/^namespaces: .*joining/, /^namespaces without .proc: .*joining/],
    });
    const hole = `exec ${requireTool('bwrap')} --ro-bind /sys /sys "$@"`;
    t.match(await pretend('holed', hole), {
      tier: 'landlock',
      problems: [
        /^namespaces: does not hold system-folder/,
        /^namespaces without .proc: does not hold system-folder/,
      ],
    });
    const absent = await attackSandbox({ confine, bubblewrap: join(folder, 'none') }, folder);
    t.match(absent, { tier: 'landlock', problems: [/^namespaces: .*No such file/] });
    const nothing = await attackSandbox({ confine: join(folder, 'none'), bubblewrap: '/none' }, folder);
    t.match(nothing, { tier: 'none', walls: undefined });
  },
);

t.test('runs have no /proc where a container masks its own', { skip }, async (t) => {
  const { folder, confine } = folderForRuns(t);
  const file = join(import.meta.dirname, '..', 'agents/tools/sandbox/self-attack.ts');
  const given = JSON.stringify({ confine, bubblewrap: requireTool('bwrap') });
  const code = `const { attackSandbox } = await import(${JSON.stringify(file)});
    console.log(JSON.stringify(await attackSandbox(${given}, ${JSON.stringify(folder)})));`;
  const script = 'mount --bind /dev/null /proc/version && exec "$@"';
  const args = ['--mount', '--propagation', 'private', 'sh', '-c', script, 'sh', process.execPath];
  const made = spawnSync('unshare', [...args, '--input-type=module', '--eval', code], { encoding: 'utf8' });
  t.equal(made.status, 0, made.stderr);
  const { tier, programs, problems } = JSON.parse(made.stdout);
  t.match({ tier, programs }, { tier: 'namespaces', programs: { withoutProc: true } });
  t.match(problems, [/^namespaces: .*proc/]);
});

t.test(
  'in gVisor the tier is its runtime, with what the filter holds',
  { skip: skip || withoutGvisor() },
  async (t) => {
    const { folder, confine } = folderForRuns(t);
    const file = join(import.meta.dirname, '..', 'agents/tools/sandbox/self-attack.ts');
    const given = JSON.stringify({ confine, bubblewrap: requireTool('bwrap') });
    // The folder of this machine is read-only in there; a new one is not.
    const code = `const { mkdtempSync, chmodSync } = await import('node:fs');
    const folder = mkdtempSync('/tmp/runs-');
    chmodSync(folder, 0o711);
    const { attackSandbox } = await import(${JSON.stringify(file)});
    console.log(JSON.stringify(await attackSandbox(${given}, folder)));`;
    const args = [...gvisor, process.execPath, '--input-type=module', '--eval', code];
    const made = spawnSync(requireTool('runsc'), args, { encoding: 'utf8', timeout: 60_000 });
    t.equal(made.status, 0, `${made.stderr} ${folder}`);
    const proof = JSON.parse(made.stdout);
    t.match(proof, { tier: 'runtime', runtime: 'gvisor' }, JSON.stringify(proof.problems));
    t.ok(proof.held.length >= 30, `${proof.held.length} attacks are held`);
  },
);

t.test('a container runtime that is a sandbox is recognized by its kernel', async (t) => {
  const of = (files: Record<string, string>) => foreignRuntime((path) => files[path] ?? '');
  t.equal(of({ '/proc/version': 'Linux version 4.4.0 #1 SMP Sun Jan 10 15:06:54 PST 2016\n' }), 'gvisor');
  t.equal(of({ '/proc/cmdline': 'console=hvc0 agent.log=debug' }), 'kata');
  t.equal(of({ '/proc/version': readFileSync('/proc/version', 'utf8') }), undefined);
});

t.test('docs/tools.md says of each attack which walls hold it', async (t) => {
  const text = readFileSync(join(import.meta.dirname, '..', 'docs', 'tools.md'), 'utf8');
  const rows = attacks.map(({ name, tries, heldBy }) => {
    const cells = ['namespaces', 'landlock', 'bare'].map((walls) =>
      heldBy.includes(walls as Walls) ? 'held' : '**not held**',
    );
    return `| ${tries} | \`${name}\` | ${cells.join(' | ')} |`;
  });
  const table = text.slice(text.indexOf('<!-- attacks -->'), text.indexOf('<!-- /attacks -->'));
  t.same(
    table.split('\n').filter((line) => line.includes('`')),
    rows,
  );
});
