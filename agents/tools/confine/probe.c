/*
 * The attacks. Each tries one way out of the sandbox and says whether it was held. Nothing is harmed where it is not: an attack
 * takes what the runner laid out for it, undoes what it did, and never sends a packet to an address outside of this machine.
 * agents/tools/sandbox/attacks.ts says which tier promises what.
 */
#define _GNU_SOURCE
#include "confine.h"
#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define MARK "OUTRIGGER_CANARY"
extern char **environ;

/* What the runner has laid out. */
static const char *outside = "/nonexistent", *workspace = ".", *abstract = "none";
static int port, keep, victim, runner;
static unsigned long secret;

static char path[4200];
static const char *in(const char *folder, const char *name) {
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return path;
}
static int opens(const char *name, int flags) {
  int fd = open(name, flags | O_CLOEXEC | O_NONBLOCK, 0600);
  if (fd < 0) return 0;
  if (flags & O_CREAT) unlink(name);
  close(fd);
  return 1;
}
static int of_victim(const char *what, int flags) {
  char name[200];
  snprintf(name, sizeof name, "/proc/%d/%s", victim, what);
  return opens(name, flags);
}
static int connects(int fd, const void *address, socklen_t size) {
  if (fd < 0) return 0;
  int result = connect(fd, address, size);
  close(fd);
  return result == 0;
}
static int inet(int type, const char *text, int to) {
  struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((unsigned short)to) };
  inet_pton(AF_INET, text, &address.sin_addr);
  return connects(socket(AF_INET, type | SOCK_CLOEXEC, 0), &address, sizeof address);
}
static int inet6(int type, const char *text, int to) {
  struct sockaddr_in6 address = { .sin6_family = AF_INET6, .sin6_port = htons((unsigned short)to) };
  inet_pton(AF_INET6, text, &address.sin6_addr);
  return connects(socket(AF_INET6, type | SOCK_CLOEXEC, 0), &address, sizeof address);
}
static socklen_t unix_address(struct sockaddr_un *address, const char *name, int is_abstract) {
  *address = (struct sockaddr_un){ .sun_family = AF_UNIX };
  size_t length = strnlen(name, sizeof address->sun_path - 2);
  memcpy(address->sun_path + is_abstract, name, length);
  return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + 1);
}
static int works(long result) {
  if (result < 0) return 0;
  close((int)result);
  return 1;
}
/* In a child of its own: what ends or changes the process. */
static int child_does(int (*what)(void)) {
  pid_t pid = fork();
  if (pid < 0) return 0;
  if (pid == 0) _exit(what() ? 0 : 1);
  int status;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* Each answers 1 where the attack succeeds. */
static int read_file(void) { return opens(in(outside, "secret"), O_RDONLY); }
static int list_folder(void) { return opens(outside, O_RDONLY | O_DIRECTORY); }
static int see_file(void) { struct stat st; return stat(in(outside, "secret"), &st) == 0; }
static int create_file(void) { return opens(in(outside, "new"), O_WRONLY | O_CREAT); }
static int truncate_file(void) { return truncate(in(outside, "secret"), 40) == 0; }
static int delete_file(void) { return unlink(in(outside, "unneeded")) == 0; }
static int rename_file(void) { return rename(in(outside, "secret"), path) == 0; }
static int change_mode(void) { return chmod(in(outside, "secret"), 0644) == 0; }
static int through_symlink(void) {
  char link[4200];
  snprintf(link, sizeof link, "%s/probe-link", workspace);
  int result = symlink(in(outside, "secret"), link) == 0 && opens(link, O_RDONLY);
  unlink(link);
  return result;
}
/* One process exchanges a folder for a link, again and again, while the other opens a file below it. */
static int symlink_race(void) {
  char folder[4200], link[4200], file[4300];
  int found = 0, status;
  snprintf(folder, sizeof folder, "%s/probe-race", workspace);
  snprintf(link, sizeof link, "%s/probe-race-link", workspace);
  snprintf(file, sizeof file, "%s/secret", folder);
  if (mkdir(folder, 0700) == 0 && symlink(outside, link) == 0) {
    pid_t pid = fork();
    if (pid == 0) {
      for (int round = 0; round < 2000; round++) syscall(__NR_renameat2, AT_FDCWD, folder, AT_FDCWD, link, 2 /* RENAME_EXCHANGE */);
      _exit(0);
    }
    while (pid > 0 && waitpid(pid, &status, WNOHANG) == 0) found |= opens(file, O_RDONLY);
    found |= opens(file, O_RDONLY);
    snprintf(file, sizeof file, "%s/secret", link);
    found |= opens(file, O_RDONLY);
  }
  const char *const names[] = { folder, link };
  for (int at = 0; at < 2; at++) if (unlink(names[at]) < 0) rmdir(names[at]);
  return found;
}
static int through_hard_link(void) {
  char name[4200];
  snprintf(name, sizeof name, "%s/probe-hard", workspace);
  int result = linkat(AT_FDCWD, in(outside, "secret"), AT_FDCWD, name, 0) == 0;
  unlink(name);
  return result;
}
static int through_root(void) {
  char name[9000];
  snprintf(name, sizeof name, "/proc/%d/root%s", victim, in(outside, "secret"));
  if (opens(name, O_RDONLY)) return 1;
  snprintf(name, sizeof name, "/proc/1/root%s", in(outside, "secret"));
  return opens(name, O_RDONLY);
}
static int by_handle(void) {
  struct { unsigned int bytes; int type; unsigned char text[128]; } handle = { .bytes = 128 };
  int mount;
  return syscall(__NR_name_to_handle_at, AT_FDCWD, in(outside, "secret"), &handle, &mount, 0) == 0;
}
static int watch_file(void) {
  int fd = inotify_init1(IN_CLOEXEC);
  if (fd < 0) return 0;
  int result = inotify_add_watch(fd, in(outside, "secret"), IN_OPEN) >= 0;
  close(fd);
  return result;
}
static int neighbour(void) { return opens(in(outside, "neighbour/file"), O_RDONLY); }
static int write_system(void) { return opens("/usr/confine-probe", O_WRONLY | O_CREAT) || opens("/etc/confine-probe", O_WRONLY | O_CREAT); }
static int fill_memory_disk(void) {
  static const char *const names[] = { "/confine-probe", "/dev/confine-probe", "/run/confine-probe", "/proc/confine-probe", "/opt/confine-probe" };
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) if (opens(names[i], O_WRONLY | O_CREAT)) return 1;
  return 0;
}
static int kernel_settings(void) {
  return opens("/proc/sys/kernel/core_pattern", O_WRONLY) || opens("/proc/sysrq-trigger", O_WRONLY) || opens("/proc/sys/vm/overcommit_memory", O_WRONLY);
}
static int system_folder(void) { return opens("/sys/fs/cgroup", O_RDONLY | O_DIRECTORY) || opens("/sys/kernel", O_RDONLY | O_DIRECTORY); }
static int devices(void) {
  static const char *const names[] = { "/dev/mem", "/dev/kmsg", "/dev/fuse", "/dev/kvm", "/dev/vsock", "/dev/net/tun", "/dev/loop-control" };
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) if (opens(names[i], O_RDONLY)) return 1;
  return 0;
}
static int make_device(void) {
  int result = mknod(in(workspace, "probe-device"), S_IFCHR | 0600, makedev(1, 1)) == 0;
  unlink(path);
  return result;
}
static int runtime_sockets(void) {
  static const char *const names[] = { "/run/docker.sock", "/run/containerd/containerd.sock", "/run/podman/podman.sock",
    "/var/run/secrets/kubernetes.io/serviceaccount/token", "/root", "/home", "/var", "/etc/shadow", "/etc/passwd", "/tmp/..data" };
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) if (opens(names[i], O_RDONLY)) return 1;
  return 0;
}

static int see_process(void) { return victim > 0 && (kill(victim, 0) == 0 || errno == EPERM); }
static int list_processes(void) {
  DIR *proc = opendir("/proc");
  if (proc == NULL) return 0;
  int found = 0;
  for (struct dirent *entry; (entry = readdir(proc)) != NULL;) {
    char name[300], text[64] = "";
    if (!isdigit((unsigned char)entry->d_name[0])) continue;
    snprintf(name, sizeof name, "/proc/%s/comm", entry->d_name);
    int fd = open(name, O_RDONLY);
    if (fd >= 0) { if (read(fd, text, sizeof text - 1) < 0) text[0] = 0; close(fd); }
    if (strncmp(text, "confine", 7) != 0 && strncmp(text, "bwrap", 5) != 0) found = 1;
  }
  closedir(proc);
  return found;
}
static int signal_process(void) { return kill(victim, SIGURG) == 0; }
static int signal_by_pidfd(void) {
  int fd = (int)syscall(434 /* pidfd_open */, victim, 0);
  int result = fd >= 0 && syscall(424 /* pidfd_send_signal */, fd, SIGURG, NULL, 0) == 0;
  if (fd >= 0) close(fd);
  return result;
}
/* The kernel says yes even if it reached nobody: the victim tells whether it did. */
static int signal_all(void) { kill(-1, SIGWINCH); return 0; }
static int read_environment(void) {
  int found = 0;
  DIR *proc = opendir("/proc");
  char name[300];
  static char text[1 << 16];
  for (int known = 0;;) {
    struct dirent *entry = proc == NULL ? NULL : readdir(proc);
    if (entry == NULL) {
      const int pids[] = { victim, runner, getppid() };
      if (known == 3) break;
      snprintf(name, sizeof name, "/proc/%d/environ", pids[known++]);
    } else if (isdigit((unsigned char)entry->d_name[0])) snprintf(name, sizeof name, "/proc/%s/environ", entry->d_name);
    else continue;
    int fd = open(name, O_RDONLY);
    if (fd < 0) continue;
    ssize_t length = read(fd, text, sizeof text);
    if (length > 0 && memmem(text, (size_t)length, MARK, strlen(MARK)) != NULL) found = 1;
    close(fd);
  }
  if (proc != NULL) closedir(proc);
  return found;
}
static int own_environment(void) {
  for (char **at = environ; *at != NULL; at++)
    if (strncmp(*at, "PATH=", 5) && strncmp(*at, "HOME=", 5) && strncmp(*at, "LANG=", 5) && strncmp(*at, "TMPDIR=", 7) && strncmp(*at, "PWD=", 4)) return 1;
  return 0;
}
static int inherited(void) {
  for (int fd = 3; fd < 128; fd++) if (fd != keep && fcntl(fd, F_GETFD) >= 0) return 1;
  return 0;
}
static int trace(void) {
  if (ptrace(PTRACE_SEIZE, victim, 0, 0) < 0) return 0;
  return 1;
}
static int trace_process(void) { return child_does(trace); }
static int read_memory(void) {
  char text[16];
  struct iovec local = { text, sizeof text }, remote = { (void *)secret, sizeof text };
  return process_vm_readv(victim, &local, 1, &remote, 1, 0) > 0;
}
static int open_memory(void) { return of_victim("mem", O_RDWR); }
static int parent_memory(void) {
  char name[64];
  snprintf(name, sizeof name, "/proc/%d/mem", getppid());
  return opens(name, O_RDWR);
}
static int init_memory(void) { return opens("/proc/1/mem", O_RDWR); }
static int open_descriptor(void) { return of_victim("fd/0", O_RDONLY) || of_victim("cwd", O_RDONLY) || of_victim("maps", O_RDONLY); }
static int take_descriptor(void) {
  int fd = (int)syscall(434 /* pidfd_open */, victim, 0);
  int result = fd >= 0 && works(syscall(438 /* pidfd_getfd */, fd, 0, 0));
  if (fd >= 0) close(fd);
  return result;
}
static int set_limits(void) { struct rlimit core; return getrlimit(RLIMIT_CORE, &core) == 0 && prlimit(victim, RLIMIT_NOFILE, NULL, &core) == 0 && prlimit(victim, RLIMIT_NOFILE, &core, NULL) == 0; }
static int slow_down(void) { return setpriority(PRIO_PROCESS, (unsigned)victim, 1) == 0; }
static int pin_process(void) {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) == 0 && sched_setaffinity(victim, sizeof set, &set) == 0;
}

static int connect_tcp(void) { return inet(SOCK_STREAM, "127.0.0.1", port); }
static int connect_tcp6(void) { return inet6(SOCK_STREAM, "::1", port); }
/* Connecting a datagram socket asks for a route and sends nothing. */
static int metadata(void) { return inet(SOCK_DGRAM, "169.254.169.254", 80) || inet6(SOCK_DGRAM, "fd00:ec2::254", 80); }
static int internet(void) { return inet(SOCK_DGRAM, "192.0.2.1", 53) || inet6(SOCK_DGRAM, "2001:db8::1", 53); }
static int listen_tcp(void) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr_in any = { .sin_family = AF_INET };
  int result = fd >= 0 && bind(fd, (void *)&any, sizeof any) == 0 && listen(fd, 1) == 0;
  if (fd >= 0) close(fd);
  return result;
}
static int other_sockets(void) {
  return works(socket(AF_NETLINK, SOCK_RAW, 0)) || works(socket(AF_PACKET, SOCK_RAW, 0)) || works(socket(40 /* AF_VSOCK */, SOCK_STREAM, 0)) || works(socket(38 /* AF_ALG */, SOCK_SEQPACKET, 0));
}
static int abstract_socket(void) {
  struct sockaddr_un address;
  socklen_t size = unix_address(&address, abstract, 1);
  return connects(socket(AF_UNIX, SOCK_STREAM, 0), &address, size);
}
static int path_socket(void) {
  struct sockaddr_un address;
  socklen_t size = unix_address(&address, in(outside, "socket"), 0);
  return connects(socket(AF_UNIX, SOCK_STREAM, 0), &address, size);
}
static int datagram_pair(void) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) < 0) return 0;
  struct sockaddr_un address;
  socklen_t size = unix_address(&address, in(outside, "socket"), 0);
  ssize_t sent = sendto(pair[0], "x", 1, 0, (void *)&address, size);
  int result = sent == 1 || errno == EPROTOTYPE || errno == ECONNREFUSED; /* the socket was found */
  close(pair[0]);
  close(pair[1]);
  return result;
}
static int ring(void) { static char parameters[128]; return works(syscall(425, 1, parameters)); }

static int user_namespace(void) { return unshare(CLONE_NEWUSER) == 0; }
static int new_namespace(void) { return child_does(user_namespace); }
static int cloned(void) {
  pid_t pid = (pid_t)syscall(__NR_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
  if (pid == 0) _exit(0);
  if (pid > 0) waitpid(pid, NULL, 0);
  return pid > 0;
}
static int cloned3(void) {
  struct { unsigned long flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls; } attr = { .flags = CLONE_NEWUSER, .exit_signal = SIGCHLD };
  pid_t pid = (pid_t)syscall(435, &attr, sizeof attr);
  if (pid == 0) _exit(0);
  if (pid > 0) waitpid(pid, NULL, 0);
  return pid > 0;
}
static int mounted(void) { return mount("none", workspace, "tmpfs", 0, "size=4k") == 0 && umount2(workspace, MNT_DETACH) == 0; }
static int mount_proc(void) { return mount("proc", workspace, "proc", 0, NULL) == 0 && umount2(workspace, MNT_DETACH) == 0; }
static int new_mount(void) {
  return works(syscall(430 /* fsopen */, "tmpfs", 0)) || works(syscall(428 /* open_tree */, AT_FDCWD, "/", 1 /* OPEN_TREE_CLONE */));
}
static int enter_with_pidfd(void) {
  int fd = (int)syscall(434 /* pidfd_open */, victim, 0);
  return fd >= 0 && setns(fd, CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWPID) == 0;
}
static int enter_by_pidfd(void) { return child_does(enter_with_pidfd); }
static int enter_other(void) {
  char name[64];
  snprintf(name, sizeof name, "/proc/%d/ns/net", victim);
  int fd = open(name, O_RDONLY | O_CLOEXEC);
  int result = fd >= 0 && setns(fd, CLONE_NEWNET) == 0;
  if (fd >= 0) close(fd);
  return result;
}
static int enter_namespace(void) { return child_does(enter_other); }
static int rooted(void) { return chroot(workspace) == 0; }
static int change_root(void) { return child_does(rooted); }
static int keys(void) { return syscall(__NR_add_key, "user", "confine-probe", "x", 1, -2 /* the process's own */) >= 0; }
static int programs(void) {
  static char attr[128];
  if (syscall(__NR_bpf, 0, attr, sizeof attr) >= 0) return 1;
  return errno != EPERM;
}
static int counters(void) { static unsigned int attr[32] = { 1, 112 }; return works(syscall(__NR_perf_event_open, attr, 0, -1, -1, 0)); }
static int page_faults(void) {
#if defined(__x86_64__)
  return works(syscall(323, 1));
#else
  return works(syscall(282, 1));
#endif
}
static int hidden_memory(void) { return works(syscall(__NR_memfd_create, "probe", 1)); }
static int secret_memory(void) { return works(syscall(447 /* memfd_secret */, 0)); }
/* All of them together have a bound for the whole machine. */
static int requests(void) {
  unsigned long context = 0;
  if (syscall(__NR_io_setup, 64, &context) < 0) return 0;
  syscall(__NR_io_destroy, context);
  return 1;
}
/* A handler of the machine gets cores by a pipe whatever their limit is, but for a limit of one byte. */
static int core_dump(void) {
  struct rlimit core, none = { 0, 0 };
  if (getrlimit(RLIMIT_CORE, &core) < 0 || core.rlim_cur != 1) return 1;
  return setrlimit(RLIMIT_CORE, &none) == 0;
}
static int shared_memory(void) {
  int id = (int)syscall(__NR_shmget, 0, 4096, 0600 | 01000);
  if (id >= 0) syscall(__NR_shmctl, id, 0, 0);
  return id >= 0;
}
static int type_ahead(void) { return ioctl(0, TIOCSTI, "x") == 0 || errno != EPERM; }
static int socket_buffers(void) {
  int pair[2], size = 16 << 20;
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0) return 0;
  int result = setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size) == 0 || setsockopt(pair[1], SOL_SOCKET, SO_RCVBUF, &size, sizeof size) == 0;
  close(pair[0]);
  close(pair[1]);
  return result;
}
static int pipe_buffers(void) {
  int ends[2];
  if (pipe(ends) < 0) return 0;
  int result = fcntl(ends[0], F_SETPIPE_SZ, 1 << 20) > 0;
  close(ends[0]);
  close(ends[1]);
  return result;
}
static int init_words(void) {
  char words[256] = { 0 };
  int fd = open("/proc/1/cmdline", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  ssize_t length = read(fd, words, sizeof words);
  close(fd);
  for (ssize_t at = 0; at < length; at++) if (words[at] != 0) return 1;
  return 0;
}
static int privileges(void) { return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1; }
static int capabilities(void) {
  struct { unsigned int version; int pid; } head = { 0x20080522, 0 };
  unsigned int sets[6] = { 0 };
  return syscall(__NR_capget, &head, sets) == 0 && (sets[0] | sets[1] | sets[3] | sets[4]) != 0;
}
static int other_calls(void) {
#if defined(__x86_64__)
  long result;
  __asm__ volatile("int $0x80" : "=a"(result) : "a"(20L) : "memory", "r8", "r9", "r10", "r11"); /* getpid of 32 bits */
  return result > 0;
#else
  return 0;
#endif
}
static int foreign_calls(void) { return child_does(other_calls); }
static int unknown_calls(void) { syscall(100000); int unknown = errno; errno = 0; syscall(463); return unknown != ENOSYS || errno != ENOSYS; }

static const struct { const char *name; int (*succeeds)(void); } attacks[] = {
  { "read-file", read_file }, { "list-folder", list_folder }, { "see-file", see_file }, { "create-file", create_file },
  { "truncate-file", truncate_file }, { "delete-file", delete_file }, { "rename-file", rename_file }, { "change-mode", change_mode },
  { "through-symlink", through_symlink }, { "symlink-race", symlink_race }, { "through-hard-link", through_hard_link }, { "through-proc-root", through_root },
  { "by-handle", by_handle }, { "watch-file", watch_file }, { "read-neighbour", neighbour }, { "write-system", write_system },
  { "fill-memory-disk", fill_memory_disk }, { "kernel-settings", kernel_settings }, { "system-folder", system_folder },
  { "devices", devices }, { "make-device", make_device }, { "known-secrets", runtime_sockets },
  { "see-process", see_process }, { "list-processes", list_processes }, { "signal-process", signal_process }, { "signal-by-pidfd", signal_by_pidfd }, { "signal-all", signal_all },
  { "read-environment", read_environment }, { "own-environment", own_environment }, { "inherited-descriptors", inherited },
  { "trace-process", trace_process }, { "read-memory", read_memory }, { "open-memory", open_memory }, { "parent-memory", parent_memory }, { "init-memory", init_memory }, { "init-words", init_words },
  { "open-descriptor", open_descriptor }, { "take-descriptor", take_descriptor }, { "set-limits", set_limits },
  { "slow-down", slow_down }, { "pin-process", pin_process },
  { "connect-tcp", connect_tcp }, { "connect-tcp6", connect_tcp6 }, { "metadata-address", metadata }, { "internet", internet }, { "listen-tcp", listen_tcp },
  { "other-sockets", other_sockets }, { "abstract-socket", abstract_socket }, { "path-socket", path_socket },
  { "datagram-pair", datagram_pair }, { "io-uring", ring },
  { "new-namespace", new_namespace }, { "clone-namespace", cloned }, { "clone3-namespace", cloned3 }, { "mount", mounted }, { "mount-proc", mount_proc },
  { "new-mount", new_mount }, { "enter-namespace", enter_namespace }, { "enter-by-pidfd", enter_by_pidfd }, { "change-root", change_root }, { "keyring", keys },
  { "bpf", programs }, { "perf-events", counters }, { "userfaultfd", page_faults }, { "memfd", hidden_memory },
  { "secret-memory", secret_memory }, { "asynchronous-requests", requests }, { "core-dump", core_dump },
  { "shared-memory", shared_memory }, { "socket-buffers", socket_buffers }, { "pipe-buffers", pipe_buffers }, { "type-ahead", type_ahead }, { "new-privileges", privileges },
  { "capabilities", capabilities }, { "32-bit-calls", foreign_calls }, { "unknown-calls", unknown_calls },
};

int mode_probe(int argc, char **argv) {
  const char *only = NULL;
  for (int at = 1; at + 1 < argc; at += 2) {
    const char *name = argv[at], *value = argv[at + 1];
    if (strcmp(name, "--outside") == 0) outside = value;
    else if (strcmp(name, "--workspace") == 0) workspace = value;
    else if (strcmp(name, "--abstract") == 0) abstract = value;
    else if (strcmp(name, "--port") == 0) port = atoi(value);
    else if (strcmp(name, "--keep") == 0) keep = atoi(value);
    else if (strcmp(name, "--victim") == 0) victim = atoi(value);
    else if (strcmp(name, "--runner") == 0) runner = atoi(value);
    else if (strcmp(name, "--secret") == 0) secret = strtoul(value, NULL, 10);
    else if (strcmp(name, "--only") == 0) only = value;
  }
  for (size_t at = 0; at < sizeof attacks / sizeof *attacks; at++) {
    if (only != NULL && strcmp(only, attacks[at].name) != 0) continue;
    int succeeded = attacks[at].succeeds();
    printf("%s %s\n", attacks[at].name, succeeded ? "broken" : "held");
  }
  return 0;
}

static char treasure[32] = "a secret of another process";

static void reached(int signal) {
  if (write(1, signal == SIGWINCH ? "all\n" : "one\n", 4) < 0) _exit(1);
}

int mode_victim(int argc, char **argv) {
  (void)argc;
  (void)argv;
  if (getenv(MARK) == NULL) return EXIT_USAGE;
  signal(SIGURG, reached);
  signal(SIGWINCH, reached);
  printf("%d %lu\n", getpid(), (unsigned long)treasure);
  fflush(stdout);
  char byte;
  ssize_t length;
  while ((length = read(0, &byte, 1)) > 0 || (length < 0 && errno == EINTR)) { /* until its owner closes the pipe */ }
  return 0;
}
