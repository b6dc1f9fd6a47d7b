/* Starts a command inside its limits: descriptors, environment, resources, Landlock, the filter, and then the command. */
#define _GNU_SOURCE
#include "confine.h"
#include "tree.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

static int ready = -1;

/* Says on the descriptor of `supervise` what failed: the command has not run. */
static int failed(const char *what) {
  char text[256];
  int length = snprintf(text, sizeof text, "%s: %s", what, strerror(errno));
  if (ready >= 0 && write(ready, text, (size_t)length) < 0) { /* nobody listens */ }
  dprintf(2, "confine: %s\n", text);
  return EXIT_REFUSED;
}

static int limit(int what, unsigned long soft, unsigned long hard) {
  struct rlimit now, wanted = { soft, hard };
  if (getrlimit(what, &now) == 0 && now.rlim_max != RLIM_INFINITY && wanted.rlim_max > now.rlim_max) {
    wanted.rlim_max = now.rlim_max;
    if (wanted.rlim_cur > now.rlim_max) wanted.rlim_cur = now.rlim_max;
  }
  return setrlimit(what, &wanted);
}

/* Also the descriptors above: what a parent left open is nothing for the command. */
static void close_from(unsigned first) {
  if (syscall(436 /* close_range */, first, ~0u, 0) == 0) return;
  for (unsigned fd = first; fd < 1024; fd++) close((int)fd);
}

/* Keeps 0, 1, 2, the proxy's where the tool has a network, and the one to `supervise`, which closes itself. */
static int close_others(unsigned first) {
  if (ready < 0) { close_from(first); return 0; }
  if (dup2(ready, (int)first) < 0) return -1;
  ready = (int)first;
  fcntl(ready, F_SETFD, FD_CLOEXEC);
  close_from(first + 1);
  return 0;
}

int mode_exec(int argc, char **argv) {
  char *environment[32] = { NULL };
  int variables = 0, at = 1, ruleset = -1, alone = 0, optional = 0;
  unsigned first = 3;
  unsigned long processes = 0, bytes = 0, seconds = 0;
  for (; at < argc && strcmp(argv[at], "--") != 0; at++) {
    const char *name = argv[at], *value = at + 1 < argc ? argv[at + 1] : "";
    if (strcmp(name, "--alone") == 0) { alone = 1; continue; }
    if (strcmp(name, "--landlock-optional") == 0) { optional = 1; continue; }
    at++;
    if (strcmp(name, "--keep") == 0) first = (unsigned)atoi(value) + 1;
    else if (strcmp(name, "--ready-fd") == 0) {
      ready = atoi(value);
      if (close_others(first) < 0) return failed("descriptors");
    }
    else if (strcmp(name, "--env") == 0 && variables < 31) environment[variables++] = (char *)value;
    else if (strcmp(name, "--processes") == 0) processes = strtoul(value, NULL, 10);
    else if (strcmp(name, "--file-bytes") == 0) bytes = strtoul(value, NULL, 10);
    else if (strcmp(name, "--cpu-seconds") == 0) seconds = strtoul(value, NULL, 10);
    else if (strcmp(name, "--chdir") == 0) { if (chdir(value) < 0) return failed(value); }
    else if (strcmp(name, "--rx") == 0 || strcmp(name, "--rw") == 0 || strcmp(name, "--dev") == 0) {
      if (ruleset == -1 && (ruleset = landlock_begin()) < 0) {
        if (!optional) return failed("landlock");
        ruleset = -2;
      }
      if (ruleset >= 0 && landlock_allow(ruleset, name + 2, value) < 0) return failed(value);
    } else { dprintf(2, "confine exec: unknown %s\n", name); return EXIT_USAGE; }
  }
  if (at + 1 >= argc) { dprintf(2, "usage: confine exec [options] -- command\n"); return EXIT_USAGE; }
  if (alone) setsid();
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return failed("no_new_privs");
  if (limit(RLIMIT_NOFILE, 128, 128) < 0) return failed("limits");
  /* gVisor's kernel knows few limits. The filter refuses what most of these are about. */
  limit(RLIMIT_CORE, 1, 1); /* with none, a handler of the machine would still get the memory of a run that crashes */
  limit(RLIMIT_MEMLOCK, 65536, 65536);
  limit(RLIMIT_MSGQUEUE, 0, 0);
  limit(RLIMIT_SIGPENDING, 256, 256);
  limit(RLIMIT_NICE, 0, 0);
  limit(RLIMIT_RTPRIO, 0, 0);
  /*
   * The kernel counts the processes of a user in its user namespace. Alone in one, the run has the count for itself; otherwise
   * everything of this user counts, also in other containers, which this process can't see: some room is for those.
   */
  if (processes > 0 && alone) processes += (unsigned long)tasks_of_user(getuid()) + 512;
  int is_bare = alone && ruleset == -1;
  if (processes > 0 && limit(RLIMIT_NPROC, processes, processes) < 0 && !is_bare) return failed("limit of processes");
  if (bytes > 0 && limit(RLIMIT_FSIZE, bytes, bytes) < 0) return failed("limit of files");
  if (seconds > 0 && limit(RLIMIT_CPU, seconds, seconds + 1) < 0) return failed("limit of CPU time");
  /* Whoever watches the run comes before it. */
  setpriority(PRIO_PROCESS, 0, 5);
  if (ruleset >= 0 && landlock_enter(ruleset) < 0) return failed("landlock");
  /* Before Landlock 6, a process in it may signal those outside. */
  if (filter_enter(alone, alone && landlock_version() < 6) < 0) return failed("seccomp");
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  if (ready >= 0 && write(ready, "+", 1) < 0) return EXIT_REFUSED;
  execve(argv[at + 1], argv + at + 1, environment);
  return failed(argv[at + 1]);
}
