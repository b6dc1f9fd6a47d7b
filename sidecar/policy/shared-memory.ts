/**
 * Shares a bounded memory among callers: decides who gets a part of it now, and who waits.
 *
 *     enter ──there is room──▶ granted ──release──▶ over
 *       └──▶ in line ──room──▶ granted
 *               └──leave──▶ over
 *
 * It grants a claim as a whole, so that one that has begun never waits for another one. In line the caller that holds
 * least is next: a flood of large claims waits behind itself. Small claims have room of their own, and pass by.
 */

/** A part of the memory that somebody has, or waits for. */
export interface Claim {
  readonly caller: string;
  /** The bytes that it holds, or requests. */
  bytes: number;
  granted: boolean;
  /** When it was admitted, in milliseconds. */
  sinceMs: number;
  onGranted(): void;
}

/** A claim up to this size is small: a long conversation without pictures. */
export const SMALL_CLAIM_BYTES = 65_536;
/** The share of the memory for larger claims; small ones have the rest. */
const LARGE_SHARE = 0.875;
/** The share of the memory for the larger claims of one caller. */
const CALLER_SHARE = 0.75;
/** How long claims are held, while none has ended yet. */
const UNKNOWN_HOLD_MS = 1_000;
const MAX_AGAIN_MS = 60_000;
/** The weight of the latest claim in the mean time that they are held. */
const HOLD_WEIGHT = 0.2;

export class SharedMemory {
  private currentMaxBytes: number;
  private readonly clock: () => number;
  private heldBytes = 0;
  private largeBytes = 0;
  /** The bytes of larger claims, by caller. */
  private readonly callers = new Map<string, number>();
  private readonly line: Claim[] = [];
  private lineBytes = 0;
  private holdMs = UNKNOWN_HOLD_MS;

  /** @param clock milliseconds that never go back */
  constructor(maxBytes: number, clock: () => number) {
    this.currentMaxBytes = maxBytes;
    this.clock = clock;
  }

  /** The bytes of all granted claims. */
  get bytes(): number {
    return this.heldBytes;
  }

  /** The number of claims in line. */
  get waiting(): number {
    return this.line.length;
  }

  get maxBytes(): number {
    return this.currentMaxBytes;
  }

  /** What is granted stays. */
  setMax(maxBytes: number): void {
    this.currentMaxBytes = maxBytes;
    this.letIn();
  }

  /** Calls `onGranted` of the claim as soon as there is room, which may be at once, unless the claim is released before. */
  enter(claim: Claim): void {
    if (this.fits(claim) && (isSmall(claim) || this.line.length === 0)) {
      this.grant(claim);
      return;
    }
    this.line.push(claim);
    this.lineBytes += claim.bytes;
    // Those before it may wait for the room of their own callers.
    this.letIn();
  }

  /** It needs less than it claimed. */
  shrink(claim: Claim, bytes: number): void {
    if (!claim.granted || bytes >= claim.bytes) return;
    this.count(claim, -1);
    claim.bytes = bytes;
    this.count(claim, 1);
    this.letIn();
  }

  /** Ends a claim, in line or granted. */
  release(claim: Claim): void {
    const at = claim.granted ? -1 : this.line.indexOf(claim);
    if (at >= 0) {
      this.line.splice(at, 1);
      this.lineBytes -= claim.bytes;
    }
    if (claim.granted) {
      this.count(claim, -1);
      claim.granted = false;
      if (!isSmall(claim)) this.holdMs += HOLD_WEIGHT * (this.clock() - claim.sinceMs - this.holdMs);
    }
    claim.bytes = 0;
    this.letIn();
  }

  /** In how many milliseconds a refused claim may find room: after those in line. */
  againMs(): number {
    const rounds = 1 + this.lineBytes / Math.max(1, this.currentMaxBytes);
    return Math.min(MAX_AGAIN_MS, Math.max(UNKNOWN_HOLD_MS, this.holdMs * rounds));
  }

  private letIn(): void {
    while (this.line.length > 0) {
      let best = -1;
      let least = Number.POSITIVE_INFINITY;
      for (let at = 0; at < this.line.length; at++) {
        const { caller } = this.line[at]!;
        const held = this.callers.get(caller) ?? 0;
        if (held >= least || !this.callerHasRoom(this.line[at]!, held)) continue;
        least = held;
        best = at;
      }
      if (best < 0 || !this.fits(this.line[best]!)) return;
      const [claim] = this.line.splice(best, 1);
      this.lineBytes -= claim!.bytes;
      this.grant(claim!);
    }
  }

  private grant(claim: Claim): void {
    claim.granted = true;
    claim.sinceMs = this.clock();
    this.count(claim, 1);
    claim.onGranted();
  }

  private fits(claim: Claim): boolean {
    // A claim that is larger than the whole memory goes alone.
    if (this.heldBytes === 0) return true;
    if (isSmall(claim)) return this.heldBytes + claim.bytes <= this.currentMaxBytes;
    if (this.largeBytes > 0 && this.largeBytes + claim.bytes > this.currentMaxBytes * LARGE_SHARE)
      return false;
    return (
      this.largeBytes === 0 ||
      (this.heldBytes + claim.bytes <= this.currentMaxBytes &&
        this.callerHasRoom(claim, this.callers.get(claim.caller) ?? 0))
    );
  }

  private callerHasRoom(claim: Claim, held: number): boolean {
    return isSmall(claim) || held === 0 || held + claim.bytes <= this.currentMaxBytes * CALLER_SHARE;
  }

  private count(claim: Claim, sign: 1 | -1): void {
    this.heldBytes += sign * claim.bytes;
    if (isSmall(claim)) return;
    this.largeBytes += sign * claim.bytes;
    const held = (this.callers.get(claim.caller) ?? 0) + sign * claim.bytes;
    if (held > 0) this.callers.set(claim.caller, held);
    else this.callers.delete(claim.caller);
  }
}

function isSmall({ bytes }: Claim): boolean {
  return bytes <= SMALL_CLAIM_BYTES;
}
