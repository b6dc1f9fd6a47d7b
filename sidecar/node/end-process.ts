/**
 * Ends the process at once, even while one of its threads hangs.
 *
 * These requests run on the thread pool. `exit` waits for its threads, and nothing can interrupt them: a name server that
 * does not answer holds `getaddrinfo` for many seconds, a disk that hangs holds a read for ever.
 */
const ON_THREADS = /^(?:GetAddrInfo|GetNameInfo|FS)Req/;

/** Ends the process at once with this code, even while one of its threads hangs. Listeners of `exit` run before. */
export function endProcess(code: number): never {
  if (process.getActiveResourcesInfo().some((name) => ON_THREADS.test(name)))
    process.once('exit', () => replaceProcess(code));
  process.exit(code);
}

/** Replaces the process with a program that only exits: the kernel ends all threads of the old one, whatever they wait for. */
function replaceProcess(code: number): void {
  try {
    process.execve?.(process.execPath, [process.execPath, '--eval', `process.exit(${code})`], {});
  } catch {
    // The system has no execve: `exit` waits for the threads.
  }
}
