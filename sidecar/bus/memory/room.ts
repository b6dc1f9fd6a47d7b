/** The room that one call has in the memory of the bus: it waits for its turn, and no longer than its caller does. */
import { type ErrorSource, TypedError } from '../../errors/typed-error.ts';
import type { Claim, SharedMemory } from '../../policy/shared-memory.ts';

/** A caller without a deadline waits so long. */
const USUAL_WAIT_MS = 30_000;
const LONGEST_TIMER_MS = 2 ** 31 - 1;
/** The refusal must be there before the caller's deadline, which would hide it. */
const MARGIN_SHARE = 0.1;
const LONGEST_MARGIN_MS = 100;

/** The caller's time, or the usual one, was over before there was room. */
export class NoRoomError extends TypedError {
  readonly source: ErrorSource = 'ours';
  readonly isSafeToRetry = true;

  constructor() {
    super(
      'what others read and submit takes the memory that bus.max_memory_bytes allows; ask again, or raise it',
    );
    this.name = 'NoRoomError';
  }
}

/** The caller whose room it is, and for how long it is wanted. */
interface RoomFor {
  /** Callers share the memory: who holds least is next. */
  readonly caller: string;
  /** Ends a wait: nobody wants the room any more. */
  readonly signal: AbortSignal;
  /** Milliseconds; Infinity without a deadline. */
  readonly timeLeftMs: () => number;
  /** Waits for as long as it takes, until the signal. */
  readonly isPatient?: boolean;
}

export class Room {
  private readonly memory: SharedMemory;
  private readonly of: RoomFor;
  private claim: Claim | undefined = undefined;

  constructor(memory: SharedMemory, of: RoomFor) {
    this.memory = memory;
    this.of = of;
  }

  get bytes(): number {
    return this.claim?.granted === true ? this.claim.bytes : 0;
  }

  /**
   * Has room for so many bytes when it resolves, in place of what it had. It rejects with NoRoomError; where the signal ends the
   * wait it resolves, and there is no room.
   */
  async take(bytes: number): Promise<void> {
    if (this.bytes >= bytes) {
      this.memory.shrink(this.claim!, bytes);
      return;
    }
    // A waiter holds nothing that others wait for.
    this.give();
    const { caller, signal, timeLeftMs, isPatient } = this.of;
    if (signal.aborted) return;
    const givenMs = timeLeftMs();
    const leftMs = Number.isFinite(givenMs) ? Math.min(givenMs, LONGEST_TIMER_MS) : USUAL_WAIT_MS;
    await new Promise<void>((resolve, reject) => {
      let timer: NodeJS.Timeout | undefined;
      const end = (settle: () => void): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', leave);
        settle();
      };
      const leave = (): void => {
        this.give();
        end(resolve);
      };
      const claim: Claim = { caller, bytes, granted: false, sinceMs: 0, onGranted: () => end(resolve) };
      this.claim = claim;
      this.memory.enter(claim);
      if (claim.granted) return;
      signal.addEventListener('abort', leave, { once: true });
      if (isPatient === true) return;
      timer = setTimeout(
        () => {
          this.give();
          end(() => reject(new NoRoomError()));
        },
        Math.max(1, leftMs - Math.min(leftMs * MARGIN_SHARE, LONGEST_MARGIN_MS)),
      );
    });
  }

  give(): void {
    const { claim } = this;
    this.claim = undefined;
    if (claim !== undefined) this.memory.release(claim);
  }
}
