/* Landlock by its system calls. The constants are here because distributions ship older headers than kernels. */
#define _GNU_SOURCE
#include "confine.h"
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef __NR_landlock_create_ruleset
#define __NR_landlock_create_ruleset 444
#define __NR_landlock_add_rule 445
#define __NR_landlock_restrict_self 446
#endif

struct ruleset_attr { uint64_t fs, net, scoped; };
struct path_beneath { uint64_t access; int32_t parent; } __attribute__((packed));

enum {
  EXECUTE = 1 << 0, WRITE_FILE = 1 << 1, READ_FILE = 1 << 2, READ_DIR = 1 << 3, REMOVE_DIR = 1 << 4,
  REMOVE_FILE = 1 << 5, MAKE_CHAR = 1 << 6, MAKE_DIR = 1 << 7, MAKE_REG = 1 << 8, MAKE_SOCK = 1 << 9,
  MAKE_FIFO = 1 << 10, MAKE_BLOCK = 1 << 11, MAKE_SYM = 1 << 12, REFER = 1 << 13, TRUNCATE = 1 << 14,
  IOCTL_DEV = 1 << 15
};

static int version;

int landlock_version(void) {
  long found = syscall(__NR_landlock_create_ruleset, NULL, 0, 1);
  return found < 0 ? 0 : (int)found;
}

static uint64_t handled(void) {
  uint64_t all = (MAKE_SYM << 1) - 1;
  if (version >= 2) all |= REFER;
  if (version >= 3) all |= TRUNCATE;
  if (version >= 5) all |= IOCTL_DEV;
  return all;
}

int landlock_begin(void) {
  version = landlock_version();
  if (version == 0) { errno = ENOSYS; return -1; }
  struct ruleset_attr attr = { handled(), 0, 0 };
  size_t size = sizeof(uint64_t);
  if (version >= 4) { attr.net = 3; size = 2 * sizeof(uint64_t); } /* bind and connect of TCP */
  if (version >= 6) { attr.scoped = 3; size = sizeof attr; }       /* abstract sockets and signals */
  return (int)syscall(__NR_landlock_create_ruleset, &attr, size, 0);
}

int landlock_allow(int ruleset, const char *what, const char *path) {
  int fd = open(path, O_PATH | O_CLOEXEC);
  if (fd < 0) return errno == ENOENT ? 0 : -1; /* what is not there needs no rule */
  struct stat st;
  if (fstat(fd, &st) < 0) { close(fd); return -1; }
  uint64_t access = EXECUTE | READ_FILE | READ_DIR;
  if (strcmp(what, "rw") == 0) access = handled() & ~(uint64_t)(MAKE_CHAR | MAKE_BLOCK | MAKE_SOCK | IOCTL_DEV);
  if (strcmp(what, "dev") == 0) access = READ_FILE | WRITE_FILE | (handled() & (TRUNCATE | IOCTL_DEV));
  if (!S_ISDIR(st.st_mode)) access &= EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;
  struct path_beneath rule = { access & handled(), fd };
  int result = (int)syscall(__NR_landlock_add_rule, ruleset, 1, &rule, 0);
  close(fd);
  return result;
}

int landlock_enter(int ruleset) {
  int result = (int)syscall(__NR_landlock_restrict_self, ruleset, 0);
  close(ruleset);
  return result;
}
