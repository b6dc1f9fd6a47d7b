/**
 * Keeps the bytes of a request as they came, piece by piece: they are kept once, never joined, and changed by putting other
 * pieces between views of them.
 */

export interface Body {
  readonly parts: readonly Buffer[];
  /** Of all parts together. */
  readonly bytes: number;
}

/** Pieces smaller than this are copied together: each would cost more than it holds. */
const SMALL_BYTES = 2_048;
const SLAB_BYTES = 65_536;

/** Takes the pieces of a body. */
export class BodyParts implements Body {
  parts: Buffer[] = [];
  bytes = 0;
  /** Small pieces are copied into it; the last of the parts is a view of it. */
  private slab: Buffer | undefined = undefined;
  private used = 0;

  push(part: Buffer): void {
    if (part.length === 0) return;
    this.bytes += part.length;
    // The first one may be all there is.
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

  /** Nobody sends it again. */
  drop(): void {
    this.parts = [];
    this.slab = undefined;
  }
}

export function bodyOf(bytes: Buffer): Body {
  return { parts: bytes.length === 0 ? [] : [bytes], bytes: bytes.length };
}

/** Views of the bytes from `start` to before `end`. */
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
