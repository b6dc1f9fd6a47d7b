/**
 * Shares the memory for request bodies among all requests: says who may read its body now, and who waits for room.
 *
 *     enter ──there is room──▶ granted ──release──▶ over
 *       └──▶ in line ──room──▶ granted
 *               └──leave──▶ over
 *
 * A body is let in as a whole, so that none that was begun has to wait for another one. In line the caller that holds
 * least is next: a flood of large bodies waits behind itself. Small ones have room of their own, and pass by.
 */

import { totalmem } from 'node:os';
import type { LlmLimitSettings } from '../shared/llm-settings.ts';

/** A body that is let in, or waits to be. */
export interface Claim {
  readonly caller: string;
  /** Bytes that it holds, or asks for. */
  bytes: number;
  granted: boolean;
  /** When it was let in, in milliseconds. */
  sinceMs: number;
  onGranted(): void;
}

/** A body up to this is small: a long conversation without pictures. */
export const SMALL_BODY_BYTES = 65_536;
/** Of the memory, for larger ones; the rest is left to small ones. */
const LARGE_SHARE = 0.875;
/** Of the memory, for the larger ones of one caller. */
const CALLER_SHARE = 0.75;
/** Where nothing is known of how long bodies are held. */
const UNKNOWN_HOLD_MS = 1_000;
const MAX_AGAIN_MS = 60_000;
/** Of what is remembered of earlier ones when another one is over. */
const HOLD_WEIGHT = 0.2;

/** Of the memory that the process may have; the rest is for everything else. */
const PROCESS_SHARE = 0.25;
const MOST_BYTES = 268_435_456;

/**
 * What the bodies may take of a process with this much memory, in bytes: a quarter, and 256 MiB at most.
 *
 * @param processBytes the bound of its container, or the machine's memory
 */
export function bodyMemoryFor(processBytes: number): number {
  return Math.min(MOST_BYTES, Math.floor(processBytes * PROCESS_SHARE));
}

/** The bound of all requests' bodies, in bytes; at least that of one. */
export function bodyMemoryOf({ maxBodyMemoryBytes, maxRequestBytes }: LlmLimitSettings): number {
  if (maxBodyMemoryBytes > 0) return maxBodyMemoryBytes;
  const constrained = process.constrainedMemory();
  // 0 or more than there is where nothing bounds the process.
  const bytes = constrained > 0 ? Math.min(constrained, totalmem()) : totalmem();
  return Math.max(bodyMemoryFor(bytes), maxRequestBytes);
}

export class BodyMemory {
  private currentMaxBytes: number;
  private readonly clock: () => number;
  private heldBytes = 0;
  private largeBytes = 0;
  /** Of the larger bodies, by caller. */
  private readonly callers = new Map<string, number>();
  private readonly line: Claim[] = [];
  private lineBytes = 0;
  private holdMs = UNKNOWN_HOLD_MS;

  /** @param clock milliseconds that never go back */
  constructor(maxBytes: number, clock: () => number) {
    this.currentMaxBytes = maxBytes;
    this.clock = clock;
  }

  /** Bytes that are held. */
  get bytes(): number {
    return this.heldBytes;
  }

  /** Bodies in line. */
  get waiting(): number {
    return this.line.length;
  }

  get maxBytes(): number {
    return this.currentMaxBytes;
  }

  /** Bodies that were let in stay. */
  setMax(maxBytes: number): void {
    this.currentMaxBytes = maxBytes;
    this.letIn();
  }

  /** Calls its `onGranted` as soon as there is room, which may be at once, unless it leaves before. */
  enter(claim: Claim): void {
    if (this.fits(claim) && (isSmall(claim) || this.line.length === 0)) {
      this.grant(claim);
      return;
    }
    this.line.push(claim);
    this.lineBytes += claim.bytes;
    // All bodies before it may wait for room of their own.
    this.letIn();
  }

  /** It holds less, or has nothing left to hold. */
  shrink(claim: Claim, bytes: number): void {
    if (!claim.granted || bytes >= claim.bytes) return;
    this.count(claim, -1);
    claim.bytes = bytes;
    this.count(claim, 1);
    this.letIn();
  }

  /** It is over, in line or let in. */
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

  /** When one that is turned away may find room, in milliseconds: after those in line. */
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
    // One that is larger than all there is goes alone.
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
  return bytes <= SMALL_BODY_BYTES;
}
