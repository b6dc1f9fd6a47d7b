/** What each kind of walls promises to hold, by the names of the attacks in confine/probe.c. */
import type { Walls } from './tiers.ts';

export interface Attack {
  name: string;
  /** What the run tries, for people. */
  tries: string;
  /** The walls that hold it. */
  heldBy: readonly Walls[];
}

const everywhere: readonly Walls[] = ['namespaces', 'landlock', 'bare'];
const confined: readonly Walls[] = ['namespaces', 'landlock'];
const namespaces: readonly Walls[] = ['namespaces'];

/** The order of probe.c. */
export const attacks: readonly Attack[] = [
  { name: 'read-file', tries: 'read a file outside of the workspace', heldBy: confined },
  { name: 'list-folder', tries: 'list a folder outside of the workspace', heldBy: confined },
  { name: 'see-file', tries: 'ask whether a file exists, and how large it is', heldBy: namespaces },
  { name: 'create-file', tries: 'create a file in a folder that everyone may write', heldBy: confined },
  { name: 'truncate-file', tries: 'cut a file off', heldBy: confined },
  { name: 'delete-file', tries: 'delete a file', heldBy: confined },
  { name: 'rename-file', tries: 'rename a file', heldBy: confined },
  { name: 'change-mode', tries: 'change the mode of a file', heldBy: everywhere },
  {
    name: 'through-symlink',
    tries: 'read a file through a symbolic link in the workspace',
    heldBy: confined,
  },
  {
    name: 'symlink-race',
    tries: 'exchange a folder for such a link while it is opened',
    heldBy: confined,
  },
  { name: 'through-hard-link', tries: 'link a file into the workspace', heldBy: confined },
  { name: 'through-proc-root', tries: 'read a file through /proc/PID/root', heldBy: confined },
  { name: 'by-handle', tries: 'get a handle of a file', heldBy: everywhere },
  { name: 'watch-file', tries: 'watch who opens a file', heldBy: everywhere },
  { name: 'read-neighbour', tries: "read the workspace of another run's task", heldBy: confined },
  { name: 'write-system', tries: 'write into /usr and /etc', heldBy: everywhere },
  {
    name: 'fill-memory-disk',
    tries: 'write to disks in memory that nothing bounds: /, /dev, /run',
    heldBy: confined,
  },
  { name: 'kernel-settings', tries: 'write to /proc/sys and /proc/sysrq-trigger', heldBy: everywhere },
  { name: 'system-folder', tries: 'open /sys', heldBy: confined },
  { name: 'devices', tries: 'open /dev/mem, /dev/kmsg, /dev/fuse, /dev/kvm, /dev/net/tun', heldBy: confined },
  { name: 'make-device', tries: 'make a device file', heldBy: everywhere },
  {
    name: 'known-secrets',
    tries: "open the places of others' secrets, accounts and sockets",
    heldBy: confined,
  },
  { name: 'see-process', tries: 'ask whether a process of the runner exists', heldBy: namespaces },
  { name: 'list-processes', tries: 'list the processes outside', heldBy: confined },
  { name: 'signal-process', tries: 'signal a process of the same user', heldBy: confined },
  { name: 'signal-by-pidfd', tries: 'the same by a pidfd', heldBy: confined },
  { name: 'signal-all', tries: 'signal every process', heldBy: confined },
  { name: 'read-environment', tries: 'read the environment of the processes outside', heldBy: confined },
  {
    name: 'own-environment',
    tries: "find something of the runner's in its own environment",
    heldBy: everywhere,
  },
  { name: 'inherited-descriptors', tries: 'use a descriptor that the runner has open', heldBy: everywhere },
  { name: 'trace-process', tries: 'trace a process of the same user (ptrace)', heldBy: everywhere },
  { name: 'read-memory', tries: 'read its memory by process_vm_readv', heldBy: everywhere },
  { name: 'open-memory', tries: 'open its /proc/PID/mem', heldBy: confined },
  { name: 'parent-memory', tries: 'open the memory of its parent', heldBy: confined },
  { name: 'init-memory', tries: 'open the memory of process 1, which ends the run', heldBy: confined },
  {
    name: 'init-words',
    tries: 'read the command line of process 1, which has paths of the runner',
    heldBy: confined,
  },
  { name: 'open-descriptor', tries: 'open its descriptors and folder in /proc', heldBy: confined },
  { name: 'take-descriptor', tries: 'take a descriptor of it by pidfd_getfd', heldBy: everywhere },
  { name: 'set-limits', tries: 'set limits of it by prlimit', heldBy: everywhere },
  { name: 'slow-down', tries: 'lower its priority', heldBy: everywhere },
  { name: 'pin-process', tries: 'pin it to a processor', heldBy: everywhere },
  { name: 'connect-tcp', tries: 'connect to a port of the machine', heldBy: everywhere },
  { name: 'connect-tcp6', tries: 'the same by IPv6', heldBy: everywhere },
  { name: 'metadata-address', tries: "find a way to the cloud's metadata address", heldBy: everywhere },
  { name: 'internet', tries: 'find a way to other networks', heldBy: everywhere },
  { name: 'listen-tcp', tries: 'listen on a port', heldBy: everywhere },
  { name: 'other-sockets', tries: 'open netlink, packet, vsock and crypto sockets', heldBy: everywhere },
  { name: 'abstract-socket', tries: 'connect to an abstract socket', heldBy: everywhere },
  { name: 'path-socket', tries: 'connect to a socket in the file system', heldBy: everywhere },
  {
    name: 'datagram-pair',
    tries: 'send to such a socket from a pair of datagram sockets',
    heldBy: everywhere,
  },
  { name: 'io-uring', tries: 'make system calls through io_uring', heldBy: everywhere },
  { name: 'new-namespace', tries: 'make a user namespace (unshare)', heldBy: everywhere },
  { name: 'clone-namespace', tries: 'the same by clone', heldBy: everywhere },
  { name: 'clone3-namespace', tries: 'the same by clone3', heldBy: everywhere },
  { name: 'mount', tries: 'mount a disk', heldBy: everywhere },
  { name: 'mount-proc', tries: 'mount a /proc', heldBy: everywhere },
  { name: 'new-mount', tries: "mount by the kernel's newer calls", heldBy: everywhere },
  { name: 'enter-namespace', tries: 'enter the network of another process', heldBy: everywhere },
  { name: 'enter-by-pidfd', tries: 'enter its namespaces by a pidfd', heldBy: everywhere },
  { name: 'change-root', tries: 'change its root folder', heldBy: everywhere },
  { name: 'keyring', tries: "use the kernel's keyrings", heldBy: everywhere },
  { name: 'bpf', tries: 'load programs into the kernel', heldBy: everywhere },
  { name: 'perf-events', tries: 'measure the kernel and other processes', heldBy: everywhere },
  { name: 'userfaultfd', tries: 'stop the kernel at page faults', heldBy: everywhere },
  { name: 'memfd', tries: 'hide memory in files without a name', heldBy: everywhere },
  { name: 'secret-memory', tries: 'hide memory by memfd_secret', heldBy: everywhere },
  {
    name: 'asynchronous-requests',
    tries: "take the machine's asynchronous requests (io_setup)",
    heldBy: everywhere,
  },
  {
    name: 'core-dump',
    tries: "hand its memory to the machine's handler of crashes",
    heldBy: everywhere,
  },
  { name: 'shared-memory', tries: 'hide memory in System V segments', heldBy: everywhere },
  {
    name: 'socket-buffers',
    tries: 'hide memory in large buffers of sockets',
    heldBy: everywhere,
  },
  { name: 'pipe-buffers', tries: 'the same in pipes', heldBy: everywhere },
  { name: 'type-ahead', tries: 'type into the terminal of the runner', heldBy: everywhere },
  { name: 'new-privileges', tries: 'gain privileges by a setuid program', heldBy: everywhere },
  { name: 'capabilities', tries: 'have or gain a capability', heldBy: everywhere },
  { name: '32-bit-calls', tries: 'make system calls of another architecture', heldBy: everywhere },
  { name: 'unknown-calls', tries: 'make system calls that the filter does not know', heldBy: everywhere },
];
