/** Collects the garbage that large bodies leave. */
import { collectGarbage } from '../../sidecar/node/collect-garbage.ts';

/** A body leaves some three times its size: bytes, text, and message. V8 alone collects that late, as most lies outside its heap. */
const COLLECT_AFTER_BYTES = 4 * 1024 * 1024;

/** Counts the bytes of large bodies, and has them collected once there are enough. */
export class BodyGarbage {
  private readonly collect: () => void;
  private bytes = 0;
  private isDue = false;

  constructor(collect: () => void = collectGarbage) {
    this.collect = collect;
  }

  /** A large body was answered, or given up. */
  add(bytes: number): void {
    this.bytes += bytes;
    if (this.bytes < COLLECT_AFTER_BYTES || this.isDue) return;
    this.isDue = true;
    // The request's own code may still have the body.
    setImmediate(() => {
      this.isDue = false;
      this.bytes = 0;
      this.collect();
    });
  }
}
