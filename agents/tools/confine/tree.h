/* What a run uses, read from /proc and from its workspace. */
#ifndef TREE_H
#define TREE_H
#include <sys/types.h>

/* `memory` includes what sockets and pipes can hold (`buffered`). */
struct usage { long processes, memory, buffered, cpu_ms, files, unlinked; };

/* Adds up the descendants of `root`, without `root` itself. Those of the first `skipped` generations are bubblewrap's own. */
void measure_tree(pid_t root, int skipped, const char *workspace, int with_files, struct usage *sum);
/* Their memory with shared pages counted once; -1 where it can't be read. */
long exact_memory(pid_t root);
/*
 * Gives them a low priority, or takes it back where the kernel allows it, but for the first `skipped` generations. What they start later
 * inherits it, but for sessions of its own. Returns 0 where the kernel takes no more of it at the moment.
 */
int lower_tree(pid_t root, int skipped, int is_low);
/* The threads of all visible processes of a user. */
int tasks_of_user(uid_t user);
/* Sends a signal to the descendants of the first `generations` (0 for all). Returns how many there were. */
int signal_tree(pid_t root, int signal, int generations);
/* The bytes below a folder; more than `most_files` entries count as too many (LONG_MAX). */
long folder_bytes(const char *path, long most_files);
#endif
