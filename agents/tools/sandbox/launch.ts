/** The command lines that start a run behind each kind of walls. */
import type { RunLimits } from './limits.ts';
import type { Walls } from './tiers.ts';

/** The programs that walls are made of. */
export interface Programs {
  /** The helper `confine` (agents/tools/confine). */
  confine: string;
  bubblewrap: string;
  /** A container whose own /proc is partly masked may not mount one: runs then have an empty folder there. */
  withoutProc?: true;
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

/** Where a run behind `namespaces` finds its workspace and the helper. */
const insideWorkspace = '/work';
export const insideConfine = '/opt/outrigger/confine';

/** The descriptor on which `confine supervise` reports. */
export const reportFd = 4;
/** The one on which the inner part says that the command has started; supervise.c knows it. */
const readyFd = 9;

/** What most programs need of /etc: no names, no addresses, no accounts. */
const etc = ['/etc/ld.so.cache', '/etc/alternatives', '/etc/ssl/openssl.cnf', '/etc/localtime'];
const systemFolders = ['/bin', '/lib', '/lib64', '/sbin'];
const systemDevices = ['/dev/null', '/dev/zero', '/dev/full', '/dev/random', '/dev/urandom'];

/** The arguments of `confine` for a run. @param pid of this process: the run ends with it */
export function launchArguments(walls: Walls, programs: Programs, launch: Launch, pid: number): string[] {
  const inner = walls === 'namespaces' ? bubblewrapped(programs, launch) : alone(walls, programs, launch);
  const { limits } = launch;
  return [
    'supervise',
    ...['--report-fd', String(reportFd), '--parent', String(pid)],
    ...['--wall-ms', String(limits.wallMs), '--cpu-ms', String(limits.cpuMs)],
    ...['--memory', String(limits.memory), '--processes', String(limits.processes)],
    ...['--files', String(limits.files), '--workspace', launch.workspace],
    // Bubblewrap's own two processes are above the command.
    ...['--skip', walls === 'namespaces' ? '2' : '0'],
    '--',
    ...inner,
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

function bubblewrapped(programs: Programs, launch: Launch): string[] {
  const disk = String(launch.limits.files);
  return [
    programs.bubblewrap,
    ...['--unshare-all', '--die-with-parent', '--new-session', '--clearenv', '--cap-drop', 'ALL'],
    ...['--hostname', 'sandbox', '--ro-bind', '/usr', '/usr'],
    ...systemFolders.flatMap((folder) => ['--symlink', `usr${folder}`, folder]),
    ...etc.flatMap((path) => ['--ro-bind-try', path, path]),
    ...(programs.withoutProc ? ['--dir', '/proc'] : ['--proc', '/proc']),
    ...['--dev', '/dev'],
    ...['--size', disk, '--tmpfs', '/dev/shm', '--size', disk, '--tmpfs', '/tmp'],
    ...['--ro-bind', programs.confine, insideConfine],
    ...launch.programs.flatMap(({ outside, inside }) => ['--ro-bind', outside, inside]),
    ...['--bind', launch.workspace, insideWorkspace],
    // They are disks in memory, without a limit of their own.
    ...['--remount-ro', '/dev', '--remount-ro', '/', '--chdir', insideWorkspace],
    '--',
    insideConfine,
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
    programs.confine,
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
