/** Reads an upstream's key from a file, and reads it again when the file changes, as a mounted Secret does. */
import { readFileSync, statSync } from 'node:fs';

/** How long a key is used before the file is looked at again. */
const LOOK_MS = 1_000;
/** No key is longer. */
const MAX_BYTES = 65_536;

export class KeyFile {
  private readonly path: string;
  private lookAtMs = Number.NEGATIVE_INFINITY;
  private seen = '';
  #key: string | undefined = undefined;

  constructor(path: string) {
    this.path = path;
  }

  /** Returns the key; undefined while the file has none. A file that can't be read for a moment leaves the last key. */
  key(nowMs: number): string | undefined {
    if (nowMs < this.lookAtMs) return this.#key;
    this.lookAtMs = nowMs + LOOK_MS;
    try {
      const { mtimeMs, ctimeMs, ino, size } = statSync(this.path);
      const state = `${mtimeMs} ${ctimeMs} ${ino} ${size}`;
      if (state === this.seen || size > MAX_BYTES) return this.#key;
      this.#key = readFileSync(this.path, 'utf8').trim() || undefined;
      this.seen = state;
    } catch {
      this.seen = '';
    }
    return this.#key;
  }
}
