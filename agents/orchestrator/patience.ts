/** Waits out a called agent that has no place now and says when it will: `grpc-retry-pushback-ms`, within the time of the step. */
import { type Metadata, status } from '@grpc/grpc-js';

/** Waits grow from the callee's own word up to this, so that many steps do not besiege one agent. */
const mostMs = 5_000;
const growth = 1.6;
/** Steps that were refused together do not come back together. */
const jitter = 0.25;

interface Refused {
  readonly code: number;
  readonly metadata: Metadata;
}

/**
 * Calls again for as long as the callee answers "later" and there is time: RESOURCE_EXHAUSTED or UNAVAILABLE with a pushback that is not
 * negative. Any other failure, and the last refusal when the time is short, is the caller's to read.
 *
 * @param deadlineMs milliseconds since the epoch
 * @throws what the call throws, and the signal's reason
 */
export async function patiently<T>(
  call: () => Promise<T>,
  deadlineMs: number,
  signal: AbortSignal,
): Promise<T> {
  for (let refusals = 0; ; refusals++) {
    try {
      return await call();
    } catch (error) {
      const pushbackMs = pushbackOf(error as Partial<Refused>);
      if (pushbackMs === undefined) throw error;
      const waitMs = waitAfter(pushbackMs, refusals);
      if (Date.now() + waitMs >= deadlineMs) throw error;
      await sleep(waitMs, signal);
    }
  }
}

/** Undefined where the callee does not ask for another try. */
function pushbackOf({ code, metadata }: Partial<Refused>): number | undefined {
  if (code !== status.RESOURCE_EXHAUSTED && code !== status.UNAVAILABLE) return undefined;
  const text = String(metadata?.get('grpc-retry-pushback-ms')[0] ?? '');
  return /^\d{1,9}$/.test(text) ? Number(text) : undefined;
}

function waitAfter(pushbackMs: number, refusals: number): number {
  const leastMs = Math.min(mostMs, 50 * growth ** refusals);
  return Math.max(pushbackMs, leastMs) * (1 + Math.random() * jitter);
}

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', end);
      resolve();
    }, ms);
    const end = () => {
      clearTimeout(timer);
      reject(signal.reason as Error);
    };
    if (signal.aborted) end();
    else signal.addEventListener('abort', end, { once: true });
  });
}
