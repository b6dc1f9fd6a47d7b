/** Shares the gateway's memory for large outputs of submitted tasks among the clients that ask for them. */
import { ApiError } from '../api-error.ts';

/** For all outputs that are read, or not sent yet; as text and as JSON they take some three times as much. */
const maxHeldBytes = 24 * 1024 * 1024;
/** The share that one address may use. */
const addressShare = 0.75;
/** Smaller outputs take no room. */
export const smallOutputBytes = 64 * 1024;
const maxWaitMs = 20_000;
const retryAfterS = 1;

interface Waiting {
  readonly address: string;
  readonly bytes: number;
  grant(): void;
}

/** Room that was given; give it back once. */
export type Release = () => void;

/** In line the address that holds least is next. An output that is larger than the whole room goes alone. */
export class AnswerRoom {
  private held = 0;
  private readonly byAddress = new Map<string, number>();
  private readonly line: Waiting[] = [];
  private readonly maxBytes: number;
  private readonly waitMs: number;

  constructor(maxBytes = maxHeldBytes, waitMs = maxWaitMs) {
    this.maxBytes = maxBytes;
    this.waitMs = waitMs;
  }

  get heldBytes(): number {
    return this.held;
  }

  get waiting(): number {
    return this.line.length;
  }

  /** Waits for room. @throws ApiError 503 when none becomes free, or the client has left */
  async take(address: string, bytes: number, signal: AbortSignal): Promise<Release> {
    if (bytes <= smallOutputBytes) return () => {};
    await new Promise<void>((resolve, reject) => {
      const waiting: Waiting = { address, bytes, grant: () => end(resolve) };
      const end = (settle: () => void): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', leave);
        settle();
      };
      const leave = (): void => {
        const at = this.line.indexOf(waiting);
        if (at >= 0) this.line.splice(at, 1);
        end(() => reject(signal.reason instanceof ApiError ? signal.reason : noRoom()));
      };
      const timer = setTimeout(leave, this.waitMs);
      signal.addEventListener('abort', leave, { once: true });
      this.line.push(waiting);
      this.letIn();
      if (signal.aborted) leave();
    });
    let given = false;
    return () => {
      if (given) return;
      given = true;
      this.count(address, -bytes);
      this.letIn();
    };
  }

  private letIn(): void {
    for (;;) {
      let best: Waiting | undefined;
      for (const waiting of this.line)
        if (this.hasShare(waiting) && (best === undefined || this.of(waiting) < this.of(best)))
          best = waiting;
      // A large one is not overtaken by smaller ones for ever.
      if (best === undefined || (this.held > 0 && this.held + best.bytes > this.maxBytes)) return;
      this.line.splice(this.line.indexOf(best), 1);
      this.count(best.address, best.bytes);
      best.grant();
    }
  }

  private hasShare(waiting: Waiting): boolean {
    const own = this.of(waiting);
    return own === 0 || own + waiting.bytes <= this.maxBytes * addressShare;
  }

  private of({ address }: Waiting): number {
    return this.byAddress.get(address) ?? 0;
  }

  private count(address: string, bytes: number): void {
    this.held += bytes;
    const left = (this.byAddress.get(address) ?? 0) + bytes;
    if (left > 0) this.byAddress.set(address, left);
    else this.byAddress.delete(address);
  }
}

function noRoom(): ApiError {
  const message = 'the outputs of other tasks use all the memory for them; try again';
  return new ApiError(503, 'UNAVAILABLE', message, { reason: 'overloaded', retryAfterS });
}
