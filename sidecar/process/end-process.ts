import { endProcess } from '../node/end-process.ts';

/**
 * The last flush of spans may take so long. With what follows, two seconds are the most that a process needs from the end
 * of its calls to its own: {@link LINGER_MS}, and then the last log lines (`node/line-writer.ts`).
 */
export const FLUSH_SPANS_MS = 1_500;
/** Time for the flush and for open sockets to close, together. */
const LINGER_MS = 1_550;

/**
 * Ends the process with this code, at the latest after a while. For an end without calls to finish: whatever would still
 * keep the process, such as a request that its server does not answer, must not. The timer itself keeps nothing.
 */
export function endProcessSoon(code: number): void {
  setTimeout(() => endProcess(code), LINGER_MS).unref();
}
