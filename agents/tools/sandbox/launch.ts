/** The command lines that start a run behind each kind of walls. */
import { relative } from 'node:path';
import type { RunLimits } from './limits.ts';
import type { Walls } from './tiers.ts';

/** The programs that walls are made of. */
export interface Programs {
  /** The helper `confine` (agents/tools/confine). */
  confine: string;
  bubblewrap: string;
  /** A container whose own /proc is partly masked may not mount one: runs then have an empty folder there. */
  withoutProc?: true;
  /** What `namespaces` are made of: bubblewrap has laid them before the first run. */
  laid?: LaidWalls;
}

/** Walls of `namespaces` that each run copies. */
interface LaidWalls {
  /** The folder in which all workspaces are. */
  folder: string;
  /** Descriptors of the walls' user namespace and files, which last as long as these are open. */
  user: number;
  mount: number;
}

/** One run: what it starts, and what it sees. */
export interface Launch {
  command: readonly string[];
  /** A folder of the host: the only one that the run may change. */
  workspace: string;
  /** Programs outside of /usr that the run may read and start, by their paths there and inside. */
  programs: readonly { outside: string; inside: string }[];
  limits: RunLimits;
  /** Descriptor 3 is a connection to the proxy. */
  hasProxy: boolean;
}

/** Where a run behind `namespaces` finds its workspace, the helper and Node; confine.h knows the first one. */
const insideWorkspace = '/work';
export const insideConfine = '/opt/outrigger/confine';
/** Where walls have the folder of all workspaces, until a run has taken its own; confine.h knows it. */
export const insideRuns = '/runs';

/** The descriptor on which `confine supervise` reports. */
export const reportFd = 4;
/** The ones by which it joins walls: their user namespace, and their files. */
const [userFd, mountFd] = [5, 6];
/** The one on which the inner part says that the command has started; confine.h knows it. */
const readyFd = 20;

/** What most programs need of /etc: no names, no addresses, no accounts. */
export const etc = ['/etc/ld.so.cache', '/etc/alternatives', '/etc/ssl/openssl.cnf', '/etc/localtime'];
export const systemFolders = ['/bin', '/lib', '/lib64', '/sbin'];
export const systemDevices = ['/dev/null', '/dev/zero', '/dev/full', '/dev/random', '/dev/urandom'];

/** The arguments of `confine` for a run. @param pid of this process: the run ends with it */
export function launchArguments(walls: Walls, programs: Programs, launch: Launch, pid: number): string[] {
  const inner = walls === 'namespaces' ? joined(launch) : alone(walls, programs, launch);
  const { limits } = launch;
  return [
    'supervise',
    ...['--report-fd', String(reportFd), '--parent', String(pid)],
    ...['--wall-ms', String(limits.wallMs), '--cpu-ms', String(limits.cpuMs)],
    ...['--memory', String(limits.memory), '--processes', String(limits.processes)],
    ...['--files', String(limits.files), '--workspace', launch.workspace],
    ...(walls === 'namespaces' ? ofWalls(programs, launch) : []),
    '--',
    ...inner,
  ];
}

/** The descriptors that a run gets of the walls, from `userFd` on. */
export function descriptorsOf(walls: Walls, { laid }: Programs): number[] {
  return walls === 'namespaces' && laid !== undefined ? [laid.user, laid.mount] : [];
}

function ofWalls({ laid, withoutProc }: Programs, { workspace, limits }: Launch): string[] {
  if (laid === undefined) throw new Error('no walls have been laid');
  return [
    ...['--walls-user-fd', String(userFd), '--walls-mount-fd', String(mountFd)],
    ...['--walls-workspace', relative(laid.folder, workspace)],
    ...['--walls-proc', withoutProc ? '0' : '1', '--walls-disk', String(limits.files)],
    // The one that waits for the run outside of its namespaces, and its process 1.
    ...['--skip', '2'],
  ];
}

/** Where the run finds a program of `Launch.programs`. */
export function pathInside(walls: Walls, program: { outside: string; inside: string }): string {
  return walls === 'namespaces' ? program.inside : program.outside;
}

/** Where the run finds its workspace. */
export function workspaceInside(walls: Walls, workspace: string): string {
  return walls === 'namespaces' ? insideWorkspace : workspace;
}

function joined(launch: Launch): string[] {
  return [
    ...confined(launch),
    ...environment(insideWorkspace, '/tmp'),
    ...['--landlock-optional', '--rx', '/', '--rw', insideWorkspace, '--rw', '/tmp', '--rw', '/dev/shm'],
    ...systemDevices.flatMap((path) => ['--dev', path]),
    '--',
    ...launch.command,
  ];
}

function alone(walls: 'landlock' | 'bare', programs: Programs, launch: Launch): string[] {
  const rules =
    walls === 'bare'
      ? []
      : [
          ...['/usr', ...systemFolders, ...etc].flatMap((path) => ['--rx', path]),
          ...['--rx', programs.confine],
          ...launch.programs.flatMap(({ outside }) => ['--rx', outside]),
          ...['--rw', launch.workspace],
          ...systemDevices.flatMap((path) => ['--dev', path]),
        ];
  return [
    ...confined(launch),
    '--alone',
    ...environment(launch.workspace, launch.workspace),
    ...rules,
    ...['--chdir', launch.workspace],
    '--',
    ...launch.command,
  ];
}

function confined({ limits, hasProxy }: Launch): string[] {
  return [
    'exec',
    ...(hasProxy ? ['--keep', '3'] : []),
    ...['--ready-fd', String(readyFd)],
    // A little more than the limit, so that a file that reaches it is seen to be too large.
    ...['--file-bytes', String(limits.files + 1_048_576)],
    // Threads count as well. Processes are counted by `supervise`; this holds a bomb until it looks.
    ...['--processes', String(limits.processes * 2 + 32)],
    ...['--cpu-seconds', String(Math.ceil(limits.cpuMs / 1000) + 1)],
  ];
}

function environment(home: string, temporary: string): string[] {
  const variables = [
    'PATH=/usr/local/bin:/usr/bin:/bin',
    `HOME=${home}`,
    'LANG=C.UTF-8',
    `TMPDIR=${temporary}`,
  ];
  return variables.flatMap((variable) => ['--env', variable]);
}
