/**
 * Keeps the bytes of a request as they came, piece by piece: it stores them once and never joins them. A change puts other
 * pieces between views of them.
 */

export interface Body {
  readonly parts: readonly Buffer[];
  /** The bytes of all parts together. */
  readonly bytes: number;
}

/** Smaller pieces are copied together: each would cost more than it holds. */
const SMALL_BYTES = 2_048;
const SLAB_BYTES = 65_536;

/** Collects the pieces of a body. */
export class BodyParts implements Body {
  parts: Buffer[] = [];
  bytes = 0;
  /** Holds copies of small pieces; the last of the parts is a view of it. */
  private slab: Buffer | undefined = undefined;
  private used = 0;

  push(part: Buffer): void {
    if (part.length === 0) return;
    this.bytes += part.length;
    // The first piece may be the whole body.
    if (part.length >= SMALL_BYTES || this.parts.length === 0) {
      this.parts.push(part);
      this.slab = undefined;
      return;
    }
    let slab = this.slab;
    if (slab === undefined || this.used + part.length > slab.length) {
      slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
      this.slab = slab;
      this.used = 0;
    } else {
      this.parts.pop();
    }
    part.copy(slab, this.used);
    this.used += part.length;
    this.parts.push(slab.subarray(0, this.used));
  }

  /** Frees the bytes: no attempt sends them again. */
  drop(): void {
    this.parts = [];
    this.slab = undefined;
  }
}

export function bodyOf(bytes: Buffer): Body {
  return { parts: bytes.length === 0 ? [] : [bytes], bytes: bytes.length };
}

/** Returns views of the bytes from `start` to before `end`. */
export function viewsOf({ parts }: Body, start: number, end: number): Buffer[] {
  const views: Buffer[] = [];
  let base = 0;
  for (const part of parts) {
    if (base >= end) break;
    const from = Math.max(0, start - base);
    const to = Math.min(part.length, end - base);
    if (from < to) views.push(from === 0 && to === part.length ? part : part.subarray(from, to));
    base += part.length;
  }
  return views;
}
