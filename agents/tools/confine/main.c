/*
 * confine: starts one run of a tool, watches it, and ends it. It has no dependency but the C library and is linked statically,
 * because it runs inside of the sandbox, too.
 */
#include "confine.h"
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
  const char *mode = argc > 1 ? argv[1] : "";
  if (strcmp(mode, "exec") == 0) return mode_exec(argc - 1, argv + 1);
  if (strcmp(mode, "supervise") == 0) return mode_supervise(argc - 1, argv + 1);
  if (strcmp(mode, "probe") == 0) return mode_probe(argc - 1, argv + 1);
  if (strcmp(mode, "victim") == 0) return mode_victim(argc - 1, argv + 1);
  if (strcmp(mode, "hold") == 0) return mode_hold();
  if (strcmp(mode, "landlock") == 0) { printf("%d\n", landlock_version()); return 0; }
  fprintf(stderr, "usage: confine exec|supervise|hold|probe|victim|landlock …\n");
  return EXIT_USAGE;
}
