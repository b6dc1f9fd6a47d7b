/**
 * Requests that run on threads of their own. `exit` waits for these threads, and nothing can interrupt them: a name server
 * that does not answer holds `getaddrinfo` for many seconds, a disk that hangs holds a read for ever.
 */
const ON_THREADS = /^(?:GetAddrInfo|GetNameInfo|FS)Req/;

/** Ends the process at once with this code, also while a thread of it hangs. What listens to `exit` runs before. */
export function endProcess(code: number): never {
  if (process.getActiveResourcesInfo().some((name) => ON_THREADS.test(name)))
    process.once('exit', () => replaceProcess(code));
  process.exit(code);
}

/** Becomes a program that only exits: the kernel ends all threads of the old one, whatever they wait for. */
function replaceProcess(code: number): void {
  try {
    process.execve?.(process.execPath, [process.execPath, '--eval', `process.exit(${code})`], {});
  } catch {
    // A system without it: the threads are waited for.
  }
}
