/* What the parts of the helper `confine` share: its modes, and how a part ends the process. */
#ifndef CONFINE_H
#define CONFINE_H
#include <stddef.h>

/* Exit codes of the helper itself; a command's own codes are in what `supervise` reports. */
enum { EXIT_USAGE = 64, EXIT_REFUSED = 71 };

/* Starts a command inside the limits and the filters, in place of this process. */
int mode_exec(int argc, char **argv);
/* Starts what `exec` starts (perhaps inside of walls), measures it, and ends it with all that it started. */
int mode_supervise(int argc, char **argv);
/* Tries to break out, and prints what it found. */
int mode_probe(int argc, char **argv);
/* Says inside of walls that they are laid, and waits until its standard input ends. */
int mode_hold(void);
/* Waits outside of the sandbox, as the process that `probe` tries to reach. */
int mode_victim(int argc, char **argv);

/* On it, a part inside of the walls says to `supervise` that the command has started (`+`), or why not; and that it left too many processes (`!`). */
enum { READY_FD = 20 };

/* Where walls that bubblewrap has laid have the folder of all workspaces, and the place of a run's own. */
#define WALLS_RUNS "/runs"
#define WALLS_WORK "/work"
/* `words` are the helper's arguments, which /proc/1/cmdline of the run would show. */
struct walls { int user_fd, mount_fd, has_proc; const char *workspace; long disk_bytes, processes; char *words; size_t words_bytes; };
/*
 * Takes this process into the walls, and runs `mode_exec` in namespaces of its own. `lifeline` reads from a pipe whose other end
 * the parent alone holds. Does not return.
 */
_Noreturn void join_walls(const struct walls *walls, int lifeline, int argc, char **argv);

/* The version of Landlock; 0 where the kernel has none. */
int landlock_version(void);
/* Begins a Landlock domain: nothing is allowed but what `landlock_allow` adds. Returns a descriptor, or -1. */
int landlock_begin(void);
/* `what` is `rx` (read and execute), `rw` (all but devices) or `dev` (read and write one file). Returns 0, or -1. */
int landlock_allow(int ruleset, const char *what, const char *path);
int landlock_enter(int ruleset);

/* Refuses system calls for good. With `without_signals`, also those that signal other processes. */
int filter_enter(int alone, int without_signals);

#endif
