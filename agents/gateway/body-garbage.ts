/** Collects the garbage that large bodies leave. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** A body leaves some three times its size: bytes, text, and message. V8 alone collects that late, as most lies outside its heap. */
const COLLECT_AFTER_BYTES = 8 * 1024 * 1024;

/** Counts the bytes of large bodies, and has them collected once there are enough. */
export class BodyGarbage {
  private readonly collect: () => void;
  private bytes = 0;
  private isDue = false;

  constructor(collect: () => void = collector()) {
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

function collector(): () => void {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  setFlagsFromString('--no-expose-gc');
  return () => collect();
}
