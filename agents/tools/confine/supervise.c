/*
 * Watches one run from outside of the sandbox. It measures the run as a whole, ends it at a limit, when it is told to and when the
 * runner is gone, and leaves only when no process of the run is left: the kernel hands orphans of the run to it.
 */
#define _GNU_SOURCE
#include "confine.h"
#include "tree.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

enum { FIRST_SAMPLE_MS = 8, SHORT_CPU_MS = 60, LEAST_SHARE = 10, FEW_PROCESSES = 8, LOWER_EVERY_MS = 100, SAMPLE_MS = 20, FILES_EVERY_MS = 100, MOST_FILES = 10000 };

struct limits { long wall_ms, cpu_ms, memory, processes, files; int skipped; const char *workspace; };

static long now_ms(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static int all_ended(pid_t main_child, int *main_status) {
  int status;
  pid_t ended;
  while ((ended = waitpid(-1, &status, WNOHANG)) > 0)
    if (ended == main_child) *main_status = status;
  return ended < 0 && errno == ECHILD;
}

/*
 * Waits for the last one. Behind a pid namespace, its process 1 takes all others with it. Elsewhere it signals again and again, because
 * a process may fork while others are signalled, and stops them before it ends them: who is stopped does not fork.
 */
static void end_all(pid_t main_child, int *main_status, int namespace_depth, int signals) {
  if (all_ended(main_child, main_status)) return;
  for (int round = 0, before = -1; namespace_depth == 0 && round < 1000; round++) {
    int found = signal_tree(getpid(), SIGSTOP, 0);
    if (found == before) break;
    before = found;
  }
  for (int round = 0; round < 20000; round++) {
    signal_tree(getpid(), SIGKILL, namespace_depth);
    if (all_ended(main_child, main_status)) return;
    /* The end of a child wakes it up. */
    struct pollfd poller = { signals, POLLIN, 0 };
    struct signalfd_siginfo info;
    poll(&poller, 1, round < 10 ? 2 : 10);
    while (read(signals, &info, sizeof info) == sizeof info) { /* whatever it was */ }
  }
}

static const char *exceeded(const struct limits *most, struct usage *now, struct usage *peak, int with_files, long wall_ms) {
  measure_tree(getpid(), most->skipped, most->workspace, with_files, now);
  if (now->processes > peak->processes) peak->processes = now->processes;
  if (now->cpu_ms > peak->cpu_ms) peak->cpu_ms = now->cpu_ms;
  if (now->processes > most->processes) return "processes";
  if (now->memory > most->memory) {
    long exact = exact_memory(getpid());
    if (exact >= 0) now->memory = exact + now->buffered;
  }
  if (now->memory > peak->memory) peak->memory = now->memory;
  if (now->memory > most->memory) return "memory";
  if (now->cpu_ms > most->cpu_ms) return "cpu";
  if (wall_ms >= most->wall_ms) return "wall";
  if (with_files && most->workspace != NULL) {
    long bytes = folder_bytes(most->workspace, MOST_FILES);
    peak->files = bytes == LONG_MAX ? bytes : bytes + now->unlinked;
    if (peak->files > most->files) return "files";
  }
  return NULL;
}

int mode_supervise(int argc, char **argv) {
  struct limits most = { LONG_MAX, LONG_MAX, LONG_MAX, LONG_MAX, LONG_MAX, 0, NULL };
  /* From the program's own name on, which is before the mode. */
  char *line = argv[-1], *last = argv[argc - 1];
  struct walls walls = { -1, -1, 1, "", 0, LONG_MAX, line, (size_t)(last + strlen(last) + 1 - line) };
  int report = 2, at = 1, highest = 4;
  pid_t parent = 0;
  for (; at + 1 < argc && strcmp(argv[at], "--") != 0; at += 2) {
    const char *name = argv[at], *value = argv[at + 1];
    long number = strtol(value, NULL, 10);
    if (strcmp(name, "--report-fd") == 0) report = (int)number;
    else if (strcmp(name, "--parent") == 0) parent = (pid_t)number;
    else if (strcmp(name, "--wall-ms") == 0) most.wall_ms = number;
    else if (strcmp(name, "--cpu-ms") == 0) most.cpu_ms = number;
    else if (strcmp(name, "--memory") == 0) most.memory = number;
    else if (strcmp(name, "--processes") == 0) walls.processes = most.processes = number;
    else if (strcmp(name, "--files") == 0) most.files = number;
    else if (strcmp(name, "--skip") == 0) most.skipped = (int)number;
    else if (strcmp(name, "--workspace") == 0) most.workspace = value;
    else if (strcmp(name, "--walls-user-fd") == 0) highest = walls.user_fd = (int)number;
    else if (strcmp(name, "--walls-mount-fd") == 0) highest = walls.mount_fd = (int)number;
    else if (strcmp(name, "--walls-workspace") == 0) walls.workspace = value;
    else if (strcmp(name, "--walls-proc") == 0) walls.has_proc = (int)number;
    else if (strcmp(name, "--walls-disk") == 0) walls.disk_bytes = number;
    else { dprintf(2, "confine supervise: unknown %s\n", name); return EXIT_USAGE; }
  }
  if (at + 1 >= argc) { dprintf(2, "usage: confine supervise [options] -- exec [options] -- command\n"); return EXIT_USAGE; }

  /* What the runner's own parent left open is nothing for a run. */
  int has_proxy = fcntl(3, F_GETFD) >= 0;
  if (report > highest) highest = report;
  if (syscall(SYS_close_range, (unsigned)highest + 1, ~0u, 0) < 0)
    for (int fd = highest + 1; fd < 1024; fd++) close(fd);

  sigset_t watched;
  sigemptyset(&watched);
  sigaddset(&watched, SIGCHLD);
  sigaddset(&watched, SIGTERM);
  sigaddset(&watched, SIGINT);
  sigaddset(&watched, SIGHUP);
  sigprocmask(SIG_BLOCK, &watched, NULL);
  int signals = signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK);
  prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
  if (parent != 0 && getppid() != parent) return EXIT_REFUSED; /* the runner ended in between */
  fcntl(report, F_SETFD, FD_CLOEXEC);

  int ready[2], life[2];
  if (pipe2(ready, O_CLOEXEC) < 0 || pipe2(life, O_CLOEXEC) < 0) return EXIT_REFUSED;
  long started = now_ms();
  pid_t supervisor = getpid(), child = fork();
  if (child < 0) { dprintf(2, "confine: fork: %s\n", strerror(errno)); return EXIT_REFUSED; }
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (getppid() != supervisor) _exit(EXIT_REFUSED);
    sigprocmask(SIG_UNBLOCK, &watched, NULL);
    if (dup2(ready[1], READY_FD) < 0) _exit(EXIT_REFUSED);
    if (walls.mount_fd >= 0) {
      close(life[1]);
      join_walls(&walls, life[0], argc - at - 1, argv + at + 1);
    }
    _exit(mode_exec(argc - at - 1, argv + at + 1));
  }
  close(ready[1]);
  close(life[0]);
  if (walls.mount_fd >= 0) { close(walls.user_fd); close(walls.mount_fd); }
  /* The pipes to the runner are the run's alone: it ends when the run has closed them. */
  int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
  dup2(nothing, 0);
  dup2(nothing, 1);
  if (report != 2) dup2(nothing, 2);
  if (has_proxy) close(3);

  struct usage now = { 0 }, peak = { 0 };
  const char *limit = NULL;
  int status = 0, ended = 0, told = 0;
  long next_files = started;
  long next_lowering = started;
  int is_low = 0;
  for (int wait_ms = FIRST_SAMPLE_MS; !ended && !told && limit == NULL; wait_ms = wait_ms * 2 < SAMPLE_MS ? wait_ms * 2 : SAMPLE_MS) {
    long left = started + most.wall_ms - now_ms();
    struct pollfd poller = { signals, POLLIN, 0 };
    poll(&poller, 1, left < wait_ms ? (left < 0 ? 0 : (int)left) : wait_ms);
    struct signalfd_siginfo info;
    while (read(signals, &info, sizeof info) == sizeof info)
      if (info.ssi_signo != SIGCHLD) told = 1;
    pid_t pid;
    int code;
    while ((pid = waitpid(-1, &code, WNOHANG)) > 0)
      if (pid == child) { ended = 1; status = code; }
    if (ended && most.skipped == 0) limit = exceeded(&most, &now, &peak, 0, 0); /* what it has left */
    if (ended || told) break;
    long time = now_ms();
    int with_files = time >= next_files;
    if (with_files) next_files = time + FILES_EVERY_MS;
    limit = exceeded(&most, &now, &peak, with_files, time - started);
    /* A run that uses much steps back behind the short ones. One that hardly gets any time on a busy machine comes back. */
    int is_heavy = now.cpu_ms > SHORT_CPU_MS + (time - started) / LEAST_SHARE || now.processes > FEW_PROCESSES;
    if (limit == NULL && time >= next_lowering && (is_heavy || is_low)) {
      int done = lower_tree(getpid(), most.skipped, is_heavy);
      if (done) is_low = is_heavy;
      next_lowering = done ? time + LOWER_EVERY_MS : time;
    }
  }
  long wall_ms = now_ms() - started;
  end_all(child, &status, most.skipped, signals);
  if (limit == NULL && !told && most.workspace != NULL) {
    peak.files = folder_bytes(most.workspace, MOST_FILES);
    if (peak.files > most.files) limit = "files";
  }
  char words[512];
  ssize_t length = read(ready[0], words, sizeof words - 1);
  words[length < 0 ? 0 : length] = 0;
  int has_started = words[0] == '+' && (words[1] == 0 || words[1] == '!');
  if (has_started && words[1] == '!' && limit == NULL && !told) limit = "processes";
  for (char *c = words; *c != 0; c++) if (*c == '"' || *c == '\\' || *c < ' ') *c = '\'';
  struct rusage used;
  getrusage(RUSAGE_CHILDREN, &used);
  long cpu_ms = (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000 + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1000;
  if (limit == NULL && WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU) limit = "cpu";
  dprintf(report,
    "{\"started\":%s,\"failure\":\"%s\",\"code\":%d,\"signal\":%d,\"limit\":%s%s%s,\"told\":%s,\"wall_ms\":%ld,\"cpu_ms\":%ld,\"memory\":%ld,\"processes\":%ld,\"files\":%ld}\n",
    has_started ? "true" : "false", has_started ? "" : words + (words[0] == '+'), WIFEXITED(status) ? WEXITSTATUS(status) : -1,
    WIFSIGNALED(status) ? WTERMSIG(status) : 0, limit == NULL ? "null" : "\"", limit == NULL ? "" : limit, limit == NULL ? "" : "\"",
    told ? "true" : "false", wall_ms, cpu_ms > peak.cpu_ms ? cpu_ms : peak.cpu_ms, peak.memory, peak.processes, peak.files);
  return 0;
}
