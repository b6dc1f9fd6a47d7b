/**
 * The last flush of spans may take so long. With what follows, two seconds are the most that a process needs from the end
 * of its calls to its own: {@link LINGER_MS}, and then the last log lines (`telemetry/line-writer.ts`).
 */
export const FLUSH_SPANS_MS = 1_500;
/** Time for the flush and for open sockets to close, together. */
const LINGER_MS = 1_550;

/**
 * Requests that run on threads of their own. `exit` waits for these threads, and nothing can interrupt them: a name server
 * that does not answer holds `getaddrinfo` for many seconds, a disk that hangs holds a read for ever.
 */
const ON_THREADS = /^(?:GetAddrInfo|GetNameInfo|FS)Req/;

/**
 * Ends the process with this code, at the latest after a while. For an end without calls to finish: whatever would still
 * keep the process, such as a request that its server does not answer, must not. The timer itself keeps nothing.
 */
export function endProcessSoon(code: number): void {
  setTimeout(() => endProcess(code), LINGER_MS).unref();
}

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
