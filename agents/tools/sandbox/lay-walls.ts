/**
 * Lays the walls of the tier `namespaces` by bubblewrap, once: what runs see of the machine's files. Each run copies them into
 * namespaces of its own (confine/join.c), which takes a fraction of the time that laying them takes.
 */
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import type { Readable } from 'node:stream';
import { insideNode } from '../catalogue/built-in.ts';
import { etc, insideConfine, insideRuns, type Programs, systemDevices, systemFolders } from './launch.ts';
import { runUser } from './sandboxed-run.ts';

const limitMs = 20_000;

/**
 * @param folder an existing folder that the user of runs may enter, in which all workspaces are
 * @throws Error that says why they can't be laid
 */
export async function layWalls(programs: Programs, folder: string): Promise<Programs> {
  const asOther = process.getuid?.() === 0 ? { uid: runUser, gid: runUser } : {};
  const child = spawn(programs.bubblewrap, argumentsOf(programs, folder), {
    cwd: '/',
    env: {},
    stdio: ['pipe', 'pipe', 'pipe', 'pipe'],
    timeout: limitMs,
    killSignal: 'SIGKILL',
    ...asOther,
  });
  const said = { laid: '', errors: '', info: '' };
  let check = (): unknown => undefined;
  const listen = (stream: Readable, name: keyof typeof said) =>
    stream.on('data', (chunk: Buffer) => {
      said[name] += chunk.toString();
      check();
    });
  listen(child.stdout!, 'laid');
  listen(child.stderr!, 'errors');
  listen(child.stdio[3] as Readable, 'info');
  child.stdin!.on('error', () => {});
  try {
    // Its process 1 is there before the walls are.
    await new Promise<void>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', () => reject(new Error(said.errors.trim().slice(-500) || 'it ended early')));
      check = () => said.laid === 'laid\n' && said.info.includes('}') && resolve();
    });
    const pid = (JSON.parse(said.info) as { 'child-pid': number })['child-pid'];
    const open = (name: string) => openSync(`/proc/${pid}/ns/${name}`, 'r');
    return { ...programs, laid: { folder, user: open('user'), mount: open('mnt') } };
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const why = code === 'ENOENT' ? `${programs.bubblewrap}: No such file or directory` : message;
    throw new Error(`bubblewrap did not lay the walls: ${why}`);
  } finally {
    child.stdin!.end();
  }
}

export function removeWalls({ laid }: Programs): void {
  if (laid === undefined) return;
  closeSync(laid.user);
  closeSync(laid.mount);
}

/** No run can write into any of it: each brings its own disks, and takes its workspace out of `insideRuns`. */
function argumentsOf(programs: Programs, folder: string): string[] {
  return [
    ...[
      '--info-fd',
      '3',
      '--unshare-all',
      '--die-with-parent',
      '--new-session',
      '--clearenv',
      '--cap-drop',
      'ALL',
    ],
    ...['--hostname', 'sandbox', '--ro-bind', '/usr', '/usr'],
    ...systemFolders.flatMap((name) => ['--symlink', `usr${name}`, name]),
    ...etc.flatMap((path) => ['--ro-bind-try', path, path]),
    ...(programs.withoutProc ? ['--dir', '/proc'] : ['--proc', '/proc']),
    // Not bubblewrap's --dev: its terminals would be one disk for all runs.
    ...systemDevices.flatMap((path) => ['--dev-bind', path, path]),
    ...['fd', 'stdin', 'stdout', 'stderr'].flatMap((name, at) => [
      '--symlink',
      at === 0 ? '/proc/self/fd' : `/proc/self/fd/${at - 1}`,
      `/dev/${name}`,
    ]),
    ...['/dev/shm', '/tmp', '/work'].flatMap((path) => ['--dir', path]),
    ...['--ro-bind', programs.confine, insideConfine],
    ...['--ro-bind-try', process.execPath, insideNode],
    ...['--bind', folder, insideRuns],
    ...['--remount-ro', '/', '--chdir', '/', '--', insideConfine, 'hold'],
  ];
}
