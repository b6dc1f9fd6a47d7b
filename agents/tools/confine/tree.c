/* What a run uses: walks its processes in /proc, and its workspace. It runs outside of the sandbox. */
#define _GNU_SOURCE
#include "tree.h"
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST = 32768, LOW = 15 };
struct found { pid_t pid; int depth; };
static struct found list[MOST];

static ssize_t read_file(const char *path, char *text, size_t size) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  ssize_t length = 0, part;
  while ((size_t)length < size - 1 && (part = read(fd, text + length, size - 1 - (size_t)length)) > 0) length += part;
  close(fd);
  text[length] = 0;
  return length;
}

/* Where the kernel lists no children (CONFIG_PROC_CHILDREN): asks every process for its parent. */
static int children_by_scan(pid_t parent, int depth, int count) {
  DIR *proc = opendir("/proc");
  if (proc == NULL) return count;
  for (struct dirent *entry; (entry = readdir(proc)) != NULL && count < MOST;) {
    if (!isdigit((unsigned char)entry->d_name[0])) continue;
    char path[300], text[600];
    snprintf(path, sizeof path, "/proc/%s/stat", entry->d_name);
    if (read_file(path, text, sizeof text) <= 0) continue;
    char *end = strrchr(text, ')');
    if (end != NULL && atoi(end + 4) == parent) list[count++] = (struct found){ atoi(entry->d_name), depth };
  }
  closedir(proc);
  return count;
}

static int children_of(pid_t parent, int depth, int count) {
  static int scans = -1;
  if (scans < 0) scans = access("/proc/thread-self/children", R_OK) != 0;
  if (scans) return children_by_scan(parent, depth, count);
  char path[300], text[16384];
  snprintf(path, sizeof path, "/proc/%d/task", parent);
  DIR *tasks = opendir(path);
  if (tasks == NULL) return count;
  for (struct dirent *entry; (entry = readdir(tasks)) != NULL;) {
    if (!isdigit((unsigned char)entry->d_name[0])) continue;
    snprintf(path, sizeof path, "/proc/%d/task/%s/children", parent, entry->d_name);
    if (read_file(path, text, sizeof text) <= 0) continue;
    for (char *at = text; *at != 0 && count < MOST;) {
      char *next;
      long pid = strtol(at, &next, 10);
      if (next == at) break;
      list[count++] = (struct found){ (pid_t)pid, depth };
      at = next + strspn(next, " \n");
    }
  }
  closedir(tasks);
  return count;
}

/* Those of the first `generations`; all with 0. */
static int descendants(pid_t root, int generations) {
  int count = children_of(root, 1, 0);
  for (int at = 0; at < count; at++)
    if (list[at].depth != generations) count = children_of(list[at].pid, list[at].depth + 1, count);
  return count;
}

static long value_of(const char *text, const char *name) {
  const char *at = strstr(text, name);
  return at == NULL ? 0 : strtol(at + strlen(name), NULL, 10);
}

/* What its sockets and pipes can hold in the kernel at most: the filter keeps them from growing. Both ends of a pipe are one. */
enum { SOCKET_BYTES = 212992, PIPE_BYTES = 65536, MOST_BUFFERS = 8192 };
static ino_t buffers[MOST_BUFFERS];
static int buffers_known;

static long buffer_bytes(const struct stat *st) {
  for (int at = 0; at < buffers_known; at++) if (buffers[at] == st->st_ino) return 0;
  if (buffers_known < MOST_BUFFERS) buffers[buffers_known++] = st->st_ino;
  return S_ISSOCK(st->st_mode) ? SOCKET_BYTES : PIPE_BYTES;
}

/* Files that a process has open and that have no name any more: no walk of the folder finds them. And its sockets and pipes. */
static long unlinked_bytes(pid_t pid, dev_t device, long *buffered) {
  char path[300];
  snprintf(path, sizeof path, "/proc/%d/fd", pid);
  DIR *fds = opendir(path);
  if (fds == NULL) return 0;
  long sum = 0;
  struct stat st;
  for (struct dirent *entry; (entry = readdir(fds)) != NULL;) {
    if (fstatat(dirfd(fds), entry->d_name, &st, 0) < 0) continue;
    if (S_ISSOCK(st.st_mode) || S_ISFIFO(st.st_mode)) *buffered += buffer_bytes(&st);
    else if (S_ISREG(st.st_mode) && st.st_nlink == 0 && st.st_dev == device) sum += st.st_blocks * 512;
  }
  closedir(fds);
  return sum;
}

void measure_tree(pid_t root, int skipped, const char *workspace, int with_files, struct usage *sum) {
  static long buffered;
  *sum = (struct usage){ 0 };
  if (with_files) buffered = buffers_known = 0;
  struct stat place = { 0 };
  if (with_files && workspace != NULL) stat(workspace, &place);
  long ticks = sysconf(_SC_CLK_TCK), time = 0;
  int count = descendants(root, 0);
  for (int at = 0; at < count; at++) {
    char path[64], text[4096];
    snprintf(path, sizeof path, "/proc/%d/stat", list[at].pid);
    if (read_file(path, text, sizeof text) > 0) {
      char *end = strrchr(text, ')');
      unsigned long own = 0, sys = 0;
      long waited = 0, waited_sys = 0;
      if (end != NULL && sscanf(end + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %ld %ld", &own, &sys, &waited, &waited_sys) == 4)
        time += (long)(own + sys) + waited + waited_sys;
    }
    if (list[at].depth <= skipped) continue;
    sum->processes++;
    snprintf(path, sizeof path, "/proc/%d/status", list[at].pid);
    if (read_file(path, text, sizeof text) > 0)
      sum->memory += (value_of(text, "RssAnon:") + value_of(text, "RssShmem:") + value_of(text, "VmSwap:")) * 1024;
    if (with_files && workspace != NULL) sum->unlinked += unlinked_bytes(list[at].pid, place.st_dev, &buffered);
  }
  sum->cpu_ms = time * 1000 / ticks;
  sum->buffered = buffered;
  sum->memory += buffered;
}

int tasks_of_user(uid_t user) {
  DIR *proc = opendir("/proc");
  int sum = 0;
  if (proc == NULL) return 0;
  for (struct dirent *entry; (entry = readdir(proc)) != NULL;) {
    struct stat st;
    char path[300], text[4096];
    if (!isdigit((unsigned char)entry->d_name[0]) || fstatat(dirfd(proc), entry->d_name, &st, 0) < 0 || st.st_uid != user) continue;
    snprintf(path, sizeof path, "/proc/%s/status", entry->d_name);
    sum += read_file(path, text, sizeof text) > 0 ? (int)value_of(text, "Threads:") : 1;
  }
  closedir(proc);
  return sum;
}

long exact_memory(pid_t root) {
  long sum = 0;
  int count = descendants(root, 0), known = 0;
  for (int at = 0; at < count; at++) {
    char path[64], text[4096];
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", list[at].pid);
    if (read_file(path, text, sizeof text) <= 0) continue;
    known = 1;
    sum += (value_of(text, "Pss_Anon:") + value_of(text, "Pss_Shmem:") + value_of(text, "SwapPss:")) * 1024;
  }
  return known ? sum : -1;
}

int signal_tree(pid_t root, int signal, int generations) {
  int count = descendants(root, generations);
  for (int at = 0; at < count; at++) kill(list[at].pid, signal);
  return count;
}

/*
 * Where the kernel groups processes by session (sched_autogroup), it weighs the groups, and a priority counts within its group only.
 * Without privileges it takes ten changes of groups a second. Returns 0 where it takes none at the moment.
 */
static int set_group(pid_t pid, int nice) {
  char path[64], text[64];
  snprintf(path, sizeof path, "/proc/%d/autogroup", pid);
  if (read_file(path, text, sizeof text) <= 0 || value_of(text, "nice ") == nice) return 1;
  int fd = open(path, O_WRONLY | O_CLOEXEC), length = snprintf(text, sizeof text, "%d", nice);
  if (fd < 0) return 1;
  int is_late = write(fd, text, (size_t)length) < 0 && errno == EAGAIN;
  close(fd);
  return !is_late;
}

static void lower(pid_t pid) {
  char path[300];
  snprintf(path, sizeof path, "/proc/%d/task", pid);
  DIR *tasks = opendir(path);
  if (tasks == NULL) return;
  for (struct dirent *entry; (entry = readdir(tasks)) != NULL;)
    if (isdigit((unsigned char)entry->d_name[0])) setpriority(PRIO_PROCESS, (id_t)atoi(entry->d_name), LOW);
  closedir(tasks);
}

int lower_tree(pid_t root, int skipped, int is_low) {
  int count = descendants(root, 0), done = 1;
  for (int at = 0; at < count; at++) {
    if (list[at].depth <= skipped) continue;
    if (is_low) lower(list[at].pid);
    if (done) done = set_group(list[at].pid, is_low ? LOW : 0);
  }
  return done;
}

static long walk(int folder, long *left, int depth) {
  DIR *entries = fdopendir(folder);
  if (entries == NULL) { close(folder); return 0; }
  long sum = 0;
  for (struct dirent *entry; (entry = readdir(entries)) != NULL;) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    struct stat st;
    if ((*left)-- <= 0) { sum = LONG_MAX; break; }
    if (fstatat(dirfd(entries), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) continue;
    sum += st.st_blocks * 512;
    if (!S_ISDIR(st.st_mode)) continue;
    int inner = depth > 0 ? openat(dirfd(entries), entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    long below = inner < 0 ? (depth > 0 ? 0 : LONG_MAX) : walk(inner, left, depth - 1);
    if (below == LONG_MAX) { sum = LONG_MAX; break; }
    sum += below;
  }
  closedir(entries);
  return sum;
}

long folder_bytes(const char *path, long most_files) {
  int folder = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  return folder < 0 ? 0 : walk(folder, &most_files, 32);
}
