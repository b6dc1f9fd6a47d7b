/* The seccomp filter: system calls that a tool has no use for, and an attacker has. */
#define _GNU_SOURCE
#include "confine.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#else
#error "confine knows x86_64 and aarch64"
#endif

#define NR_SIGNAL_LIMIT 462 /* later calls are unknown here, and answer ENOSYS */
#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif
#define NEW_NAMESPACES (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)

/* Refused whatever their arguments are. */
static const int refused[] = {
  /* the network: descriptors that are there already go on working */
  __NR_socket, __NR_connect, __NR_bind, __NR_listen, __NR_accept, __NR_accept4,
  /* other processes */
  __NR_ptrace, __NR_process_vm_readv, __NR_process_vm_writev, __NR_kcmp, 438 /* pidfd_getfd */,
  __NR_move_pages, __NR_migrate_pages, 440 /* process_madvise */, 448 /* process_mrelease */,
  /* namespaces and mounts */
  __NR_unshare, __NR_setns, __NR_mount, __NR_umount2, __NR_pivot_root, __NR_chroot,
  428 /* open_tree */, 429 /* move_mount */, 430 /* fsopen */, 431 /* fsconfig */, 432 /* fsmount */, 433 /* fspick */,
  442 /* mount_setattr */, 457 /* statmount */, 458 /* listmount */,
  __NR_open_by_handle_at, __NR_name_to_handle_at,
  /* memory that no sampling of processes sees */
  __NR_memfd_create, 447 /* memfd_secret */, __NR_shmget, __NR_shmat, __NR_shmctl, __NR_msgget, __NR_semget, __NR_mq_open,
  /* large and rarely needed parts of the kernel */
  __NR_bpf, __NR_perf_event_open, 323 * (ARCH == AUDIT_ARCH_X86_64) + 282 * (ARCH == AUDIT_ARCH_AARCH64) /* userfaultfd */,
  425 /* io_uring_setup */, 426, 427, __NR_io_setup, __NR_add_key, __NR_request_key, __NR_keyctl, __NR_fanotify_init,
  /* the machine */
  __NR_init_module, __NR_finit_module, __NR_delete_module, __NR_kexec_load, __NR_reboot, __NR_swapon, __NR_swapoff,
  __NR_acct, __NR_quotactl, 443 /* quotactl_fd */, __NR_settimeofday, __NR_clock_settime, __NR_clock_adjtime, __NR_adjtimex,
  __NR_sethostname, __NR_setdomainname, __NR_syslog, __NR_vhangup, __NR_personality,
#if defined(__x86_64__)
  __NR_iopl, __NR_ioperm, __NR_modify_ldt, __NR_uselib, __NR_ustat, __NR_sysfs, __NR__sysctl,
#endif
};

/* Also refused where no mount namespace hides other files and no pid namespace other processes. */
static const int refused_alone[] = {
#if defined(__x86_64__)
  __NR_chmod, __NR_chown, __NR_lchown, __NR_utime, __NR_utimes, __NR_futimesat, __NR_inotify_init,
#endif
  __NR_fchmodat, 452 /* fchmodat2 */, __NR_fchownat, __NR_setxattr, __NR_lsetxattr, __NR_removexattr, __NR_lremovexattr,
  __NR_inotify_init1,
};
static const int refused_signals[] = { __NR_kill, __NR_tkill, __NR_tgkill, __NR_rt_sigqueueinfo, __NR_rt_tgsigqueueinfo,
  424 /* pidfd_send_signal */ };

static struct sock_filter code[400];
static unsigned short length;

static void add(unsigned short op, unsigned int k, unsigned char jt, unsigned char jf) {
  code[length++] = (struct sock_filter){ op, jt, jf, k };
}
static void load(size_t offset) { add(BPF_LD | BPF_W | BPF_ABS, (unsigned int)offset, 0, 0); }
static void answer(unsigned int what) { add(BPF_RET | BPF_K, what, 0, 0); }
static void refuse(int nr, int error) {
  add(BPF_JMP | BPF_JEQ | BPF_K, (unsigned int)nr, 0, 1);
  answer(SECCOMP_RET_ERRNO | (unsigned int)error);
}
#define ARGUMENT(n) offsetof(struct seccomp_data, args[n])

/* Refuses `nr` unless the argument, below the mask, equals the value. */
static void only_with(int nr, int argument, unsigned int mask, unsigned int value) {
  add(BPF_JMP | BPF_JEQ | BPF_K, (unsigned int)nr, 0, 5);
  load(ARGUMENT(argument));
  add(BPF_ALU | BPF_AND | BPF_K, mask, 0, 0);
  add(BPF_JMP | BPF_JEQ | BPF_K, value, 1, 0);
  answer(SECCOMP_RET_ERRNO | EPERM);
  load(offsetof(struct seccomp_data, nr));
}
/* Refuses `nr` where the argument, below the mask, equals the value. */
static void not_with(int nr, int argument, unsigned int mask, unsigned int value) {
  add(BPF_JMP | BPF_JEQ | BPF_K, (unsigned int)nr, 0, 5);
  load(ARGUMENT(argument));
  add(BPF_ALU | BPF_AND | BPF_K, mask, 0, 0);
  add(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
  answer(SECCOMP_RET_ERRNO | EPERM);
  load(offsetof(struct seccomp_data, nr));
}

/* `exec` sets the limit of a core; one that a run lowers further would let the machine's handler of crashes have its memory. */
static void keep_core_limit(void) {
  not_with(__NR_setrlimit, 0, ~0u, RLIMIT_CORE);
  add(BPF_JMP | BPF_JEQ | BPF_K, __NR_prlimit64, 0, 8);
  load(ARGUMENT(1));
  add(BPF_JMP | BPF_JEQ | BPF_K, RLIMIT_CORE, 0, 5);
  load(ARGUMENT(2)); /* NULL where it asks only */
  add(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 2);
  load(ARGUMENT(2) + 4);
  add(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0);
  answer(SECCOMP_RET_ERRNO | EPERM);
  load(offsetof(struct seccomp_data, nr));
}

#define EACH(list, error) for (size_t i = 0; i < sizeof list / sizeof *list; i++) refuse(list[i], error)

int filter_enter(int alone, int without_signals) {
  load(offsetof(struct seccomp_data, arch));
  add(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0);
  answer(SECCOMP_RET_KILL_PROCESS);
  load(offsetof(struct seccomp_data, nr));
  /* Unknown calls, and x32's on x86_64. */
  add(BPF_JMP | BPF_JGT | BPF_K, NR_SIGNAL_LIMIT, 0, 1);
  answer(SECCOMP_RET_ERRNO | ENOSYS);
  refuse(435 /* clone3: its flags are in memory, where a filter can't read; libraries fall back to clone */, ENOSYS);
  EACH(refused, EPERM);
  if (alone) EACH(refused_alone, EPERM);
  if (without_signals) EACH(refused_signals, EPERM);
  only_with(__NR_clone, 0, NEW_NAMESPACES, 0);
  /* Pairs of datagram sockets could send to any socket with a path. */
  only_with(__NR_socketpair, 0, ~0u, AF_UNIX);
  only_with(__NR_socketpair, 1, 0xf, SOCK_STREAM);
  /* The kernel's buffers, which no sampling of memory sees, keep the size that `measure_tree` takes them for. */
  not_with(__NR_setsockopt, 2, ~0u, SO_SNDBUF);
  not_with(__NR_setsockopt, 2, ~0u, SO_RCVBUF);
  not_with(__NR_setsockopt, 2, ~0u, SO_SNDBUFFORCE);
  not_with(__NR_setsockopt, 2, ~0u, SO_RCVBUFFORCE);
  not_with(__NR_fcntl, 1, ~0u, F_SETPIPE_SZ);
  only_with(__NR_prlimit64, 0, ~0u, 0);
  keep_core_limit();
  only_with(__NR_setpriority, 0, ~0u, PRIO_PROCESS);
  only_with(__NR_setpriority, 1, ~0u, 0);
  only_with(__NR_ioprio_set, 0, ~0u, 1);
  only_with(__NR_ioprio_set, 1, ~0u, 0);
  only_with(__NR_sched_setaffinity, 0, ~0u, 0);
  only_with(__NR_sched_setscheduler, 0, ~0u, 0);
  only_with(__NR_sched_setparam, 0, ~0u, 0);
  only_with(__NR_sched_setattr, 0, ~0u, 0);
  not_with(__NR_ioctl, 1, ~0u, TIOCSTI);
  not_with(__NR_ioctl, 1, ~0u, TIOCCONS);
  not_with(__NR_ioctl, 1, ~0u, 0x541C /* TIOCLINUX */);
  /* Device files; others, such as named pipes, pass. */
  not_with(__NR_mknodat, 2, S_IFMT, S_IFCHR);
  not_with(__NR_mknodat, 2, S_IFMT, S_IFBLK);
#if defined(__x86_64__)
  not_with(__NR_mknod, 1, S_IFMT, S_IFCHR);
  not_with(__NR_mknod, 1, S_IFMT, S_IFBLK);
#endif
  answer(SECCOMP_RET_ALLOW);
  struct sock_fprog program = { length, code };
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return -1;
  return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
}
