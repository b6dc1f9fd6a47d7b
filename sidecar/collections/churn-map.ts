/**
 * Starts hashes elsewhere in each process, so that nobody outside can tell which keys fall together. Those that do are
 * walked through, at some nanoseconds each.
 */
const SEED = (Math.random() * 2 ** 32) | 0;
const FIRST_CAPACITY = 16;

/** FNV-1a with a better mixed end, over UTF-16 code units. */
export function hashOf(key: string): number {
  let hash = SEED;
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193);
  return hash ^ (hash >>> 15);
}

class Node<Value> {
  readonly key: string;
  readonly hash: number;
  value: Value | undefined;
  next: Node<Value> | undefined;

  constructor(key: string, hash: number, value: Value, next: Node<Value> | undefined) {
    this.key = key;
    this.hash = hash;
    this.value = value;
    this.next = next;
  }
}

/**
 * A map for what comes and goes with each call. A `Map` is made anew every so many additions, and the one before it keeps
 * a reference to it: once one that is out of use has got to the old generation, all that follow are held by it, with
 * everything that was in them, until the next collection of the whole heap. With a few thousand calls a second the
 * collector then moves nearly each call's objects twice, for nothing. Here what was deleted refers to nothing.
 *
 * Whoever looks for a key several times hashes it once.
 */
export class ChurnMap<Value> {
  size = 0;
  #heads: (Node<Value> | undefined)[] = new Array(FIRST_CAPACITY).fill(undefined);
  #mask = FIRST_CAPACITY - 1;

  get(key: string, hash = hashOf(key)): Value | undefined {
    for (let node = this.#heads[hash & this.#mask]; node !== undefined; node = node.next)
      if (node.hash === hash && node.key === key) return node.value;
    return undefined;
  }

  set(key: string, value: Value, hash = hashOf(key)): void {
    const at = hash & this.#mask;
    const first = this.#heads[at];
    for (let node = first; node !== undefined; node = node.next) {
      if (node.hash !== hash || node.key !== key) continue;
      node.value = value;
      return;
    }
    this.#heads[at] = new Node(key, hash, value, first);
    this.size++;
    if (this.size > this.#mask) this.#grow();
  }

  /** Sets the value unless the key has one. @returns the value that it has, undefined where it had none */
  add(key: string, value: Value, hash = hashOf(key)): Value | undefined {
    const at = hash & this.#mask;
    const first = this.#heads[at];
    for (let node = first; node !== undefined; node = node.next)
      if (node.hash === hash && node.key === key) return node.value;
    this.#heads[at] = new Node(key, hash, value, first);
    this.size++;
    if (this.size > this.#mask) this.#grow();
    return undefined;
  }

  /** @param value delete the key only if it has this one */
  delete(key: string, hash = hashOf(key), value?: Value): boolean {
    const at = hash & this.#mask;
    let before: Node<Value> | undefined;
    for (let node = this.#heads[at]; node !== undefined; before = node, node = node.next) {
      if (node.hash !== hash || node.key !== key) continue;
      if (value !== undefined && node.value !== value) return false;
      if (before === undefined) this.#heads[at] = node.next;
      else before.next = node.next;
      node.next = undefined;
      node.value = undefined;
      this.size--;
      return true;
    }
    return false;
  }

  #grow(): void {
    const heads: (Node<Value> | undefined)[] = new Array(2 * this.#heads.length).fill(undefined);
    this.#mask = heads.length - 1;
    for (let node of this.#heads) {
      while (node !== undefined) {
        const { next, hash } = node;
        node.next = heads[hash & this.#mask];
        heads[hash & this.#mask] = node;
        node = next;
      }
    }
    this.#heads = heads;
  }
}
