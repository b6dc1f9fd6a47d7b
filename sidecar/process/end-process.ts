/** Ends the process within a bounded time after its last call. */
import { endProcess } from '../node/end-process.ts';

/**
 * How long the last flush of spans may take. The process ends at most two seconds after its calls: {@link LINGER_MS}, and
 * then the last log lines (`node/line-writer.ts`).
 */
export const FLUSH_SPANS_MS = 1_500;
/** How long the flush of spans and the closing of sockets may take together. */
const LINGER_MS = 1_550;

/**
 * Ends the process with this code after at most {@link LINGER_MS}. Call it when no calls are left: nothing else, such as a
 * request that its server does not answer, shall keep the process alive. The timer itself does not keep it alive.
 */
export function endProcessSoon(code: number): void {
  setTimeout(() => endProcess(code), LINGER_MS).unref();
}
