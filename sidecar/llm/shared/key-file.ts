/** Reads keys from a file, and reads it again when the file changes, as a mounted Secret does. */
import { readFileSync, statSync } from 'node:fs';

/** How long a key is used before the file is looked at again. */
const LOOK_MS = 1_000;
/** No key is longer. */
const MAX_BYTES = 65_536;
/** A Secret that is mounted anew is away for a moment. */
const AWAY_MS = 1_500;

export class KeyFile {
  readonly path: string;
  private lookAtMs = Number.NEGATIVE_INFINITY;
  private seen = '';
  private awaySinceMs = Number.POSITIVE_INFINITY;
  /** Why the file is of no use now; the last keys stay in use. '' while it is. */
  problem = '';
  #key: string | undefined = undefined;

  constructor(path: string) {
    this.path = path;
  }

  /** Returns the key; undefined while the file has none. A file that can't be read leaves the last key. */
  key(nowMs: number): string | undefined {
    if (nowMs < this.lookAtMs) return this.#key;
    this.lookAtMs = nowMs + LOOK_MS;
    try {
      const { mtimeMs, ctimeMs, ino, size } = statSync(this.path);
      const state = `${mtimeMs} ${ctimeMs} ${ino} ${size}`;
      if (state === this.seen) return this.#key;
      if (size > MAX_BYTES) {
        this.problem = `it has more than ${MAX_BYTES} bytes; put nothing but keys into it`;
        return this.#key;
      }
      this.#key = readFileSync(this.path, 'utf8').trim() || undefined;
      this.seen = state;
      this.problem = this.#key === undefined ? 'it is empty; write a key into it' : '';
      this.awaySinceMs = Number.POSITIVE_INFINITY;
    } catch (error) {
      this.seen = '';
      this.awaySinceMs = Math.min(this.awaySinceMs, nowMs);
      if (this.#key === undefined || nowMs - this.awaySinceMs >= AWAY_MS)
        this.problem = `it can't be read (${codeOf(error)}); put it back, or make it readable for this process`;
    }
    return this.#key;
  }

  /** Whether keys of before are in use while the file is of no use. */
  get hasKey(): boolean {
    return this.#key !== undefined;
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : 'an error of the file system';
}
