/*
 * Starts a command in namespaces of its own, with the files of walls that bubblewrap has laid once: each run joins them, copies them,
 * and puts its own disks, processes and workspace in. What it joins is left behind before the command starts.
 */
#define _GNU_SOURCE
#include "confine.h"
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <linux/capability.h>
#include <unistd.h>

enum { MOST_FDS = 32, OWN = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP };

/* Says on the descriptor of `supervise` what failed: the command has not run. */
static _Noreturn void refuse(const char *what) {
  dprintf(READY_FD, "walls: %s: %s", what, strerror(errno));
  _exit(EXIT_REFUSED);
}
static void check(long result, const char *what) { if (result < 0) refuse(what); }

/* For good: neither this process nor what it starts has a capability again. */
static void drop_capabilities(void) {
  check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
  for (int each = 0; each <= 63; each++)
    if (prctl(PR_CAPBSET_DROP, each, 0, 0, 0) < 0 && errno != EINVAL) refuse("capability bounding set");
  struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
  struct __user_cap_data_struct none[2] = { { 0 } };
  check(syscall(SYS_capset, &head, none), "capabilities");
}

/* The credentials have changed since the caller was started, which clears this. */
static void end_with_parent(int lifeline) {
  check(prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0), "death signal");
  struct pollfd poller = { lifeline, 0, 0 };
  if (poll(&poller, 1, 0) != 0) _exit(EXIT_REFUSED); /* the parent has closed it by its end */
}

static void write_map(int proc, pid_t pid, const char *name, const char *text) {
  char path[64];
  snprintf(path, sizeof path, "%d/%s", pid, name);
  int fd = openat(proc, path, O_WRONLY | O_CLOEXEC);
  check(fd, name);
  check(write(fd, text, strlen(text)), name);
  close(fd);
}

static void disk(const char *where, const char *options) {
  check(mount("tmpfs", where, "tmpfs", MS_NOSUID | MS_NODEV, options), where);
}

/* A bomb whose first process found no room any more ends before anybody has counted. */
static int has_more_than(long most) {
  DIR *proc = opendir("/proc");
  long count = -1; /* this process is not the run's */
  for (struct dirent *entry; proc != NULL && (entry = readdir(proc)) != NULL;) count += isdigit((unsigned char)entry->d_name[0]) != 0;
  return count > most;
}

/* Process 1 of the run: it waits for orphans, and the kernel ends all others with it. */
static _Noreturn void init(pid_t command, long most) {
  for (;;) {
    int status;
    pid_t ended = wait(&status);
    if (ended < 0 && errno != EINTR) _exit(EXIT_REFUSED);
    if (ended == command && has_more_than(most) && write(READY_FD, "!", 1) < 0) _exit(EXIT_REFUSED);
    if (ended == command) _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
  }
}

int mode_hold(void) {
  char byte;
  if (write(1, "laid\n", 5) != 5) return EXIT_REFUSED;
  while (read(0, &byte, 1) > 0) { }
  return 0;
}

void join_walls(const struct walls *walls, int lifeline, int argc, char **argv) {
  int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
  check(proc, "/proc");
  uid_t user = getuid();
  gid_t group = getgid();
  check(setns(walls->user_fd, CLONE_NEWUSER), "joining the walls' user namespace");
  check(setns(walls->mount_fd, CLONE_NEWNS), "joining the walls' files");
  close(walls->user_fd);
  close(walls->mount_fd);
  end_with_parent(lifeline);
  check(unshare(OWN), "namespaces");

  int asked[2], told[2];
  check(pipe2(asked, O_CLOEXEC), "pipe");
  check(pipe2(told, O_CLOEXEC), "pipe");
  pid_t first = fork();
  check(first, "fork");
  if (first > 0) {
    close(asked[1]);
    close(told[0]);
    char byte, text[64];
    if (read(asked[0], &byte, 1) == 1) {
      write_map(proc, first, "setgroups", "deny");
      snprintf(text, sizeof text, "%u %u 1", user, user);
      write_map(proc, first, "uid_map", text);
      snprintf(text, sizeof text, "%u %u 1", group, group);
      write_map(proc, first, "gid_map", text);
      check(write(told[1], "+", 1), "pipe");
    }
    drop_capabilities();
    for (int fd = 0; fd < MOST_FDS; fd++) if (fd != told[1]) close(fd);
    int status;
    while (waitpid(first, &status, 0) < 0) if (errno != EINTR) _exit(EXIT_REFUSED);
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
  }
  close(asked[0]);
  close(told[1]);
  char path[PATH_MAX], size[64];
  snprintf(size, sizeof size, "mode=0700,size=%ld", walls->disk_bytes);
  snprintf(path, sizeof path, "%s/%s", WALLS_RUNS, walls->workspace);
  check(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "mounts of its own");
  disk("/tmp", size);
  disk("/dev/shm", size);
  check(mount(path, WALLS_WORK, NULL, MS_BIND | MS_REC, NULL), path);
  check(umount2(WALLS_RUNS, MNT_DETACH), WALLS_RUNS);
  if (walls->has_proc) check(mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL), "proc");
  check(sethostname("sandbox", 7), "hostname");
  /* A user namespace of its own: the kernel counts its processes there, and nothing of the walls belongs to it. */
  check(unshare(CLONE_NEWUSER), "user namespace");
  char byte = '+';
  check(write(asked[1], &byte, 1), "pipe");
  if (read(told[0], &byte, 1) != 1) _exit(EXIT_REFUSED);
  drop_capabilities();
  check(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "dumpable");
  end_with_parent(told[0]);
  check(chdir(WALLS_WORK), WALLS_WORK);
  /* The command's process has copies, before it can look. */
  for (int each = 0; each < argc; each++) check(-((argv[each] = strdup(argv[each])) == NULL), "memory");
  memset(walls->words, 0, walls->words_bytes);
  pid_t command = fork();
  check(command, "fork");
  if (command > 0) {
    for (int fd = 0; fd < MOST_FDS; fd++) if (fd != told[0] && fd != READY_FD) close(fd);
    init(command, walls->processes);
  }
  check(setsid(), "session");
  _exit(mode_exec(argc, argv));
}
