/**
 * A hash map for keys that live as long as a call.
 *
 * Each process seeds its hashes at random, so that no peer can choose keys that collide. A look-up compares colliding
 * keys one by one, at some nanoseconds each.
 */
const SEED = (Math.random() * 2 ** 32) | 0;
const FIRST_CAPACITY = 16;

/** FNV-1a over UTF-16 code units, with a final mixing step. */
export function hashOf(key: string): number {
  let hash = SEED;
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193);
  return mixed(hash);
}

/** Where {@link hashOfUnits} begins. */
export const HASH_SEED = SEED;

/**
 * The same over units of two bytes, in half the steps and without reading a string. Not the hash of a text with these bytes.
 *
 * @param hash of what comes before them
 */
export function hashOfUnits(units: Uint16Array, start: number, end: number, hash: number): number {
  let next = hash;
  for (let i = start; i < end; i++) next = Math.imul(next ^ units[i]!, 0x01000193);
  return next;
}

/** The final mixing step of a hash. */
export function mixed(hash: number): number {
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
 * A map for entries that live as long as a call. V8 rebuilds the table of a `Map` every so many additions, and the old
 * table keeps a reference to the new one. Once one dead table has got to the old generation, it holds all that follow,
 * with every entry that was in them, until the next collection of the whole heap. With a few thousand calls a second the
 * collector then moves nearly each call's objects twice, for nothing. Here a deleted entry refers to nothing.
 *
 * A caller that looks for a key several times hashes it once and passes the hash.
 */
export class ChurnMap<Value> {
  size = 0;
  private heads: (Node<Value> | undefined)[] = new Array(FIRST_CAPACITY).fill(undefined);
  private mask = FIRST_CAPACITY - 1;

  get(key: string, hash = hashOf(key)): Value | undefined {
    for (let node = this.heads[hash & this.mask]; node !== undefined; node = node.next)
      if (node.hash === hash && node.key === key) return node.value;
    return undefined;
  }

  set(key: string, value: Value, hash = hashOf(key)): void {
    const at = hash & this.mask;
    const first = this.heads[at];
    for (let node = first; node !== undefined; node = node.next) {
      if (node.hash !== hash || node.key !== key) continue;
      node.value = value;
      return;
    }
    this.heads[at] = new Node(key, hash, value, first);
    this.size++;
    if (this.size > this.mask) this.grow();
  }

  /** Sets the value unless the key has one. @returns the present value, undefined where there was none */
  add(key: string, value: Value, hash = hashOf(key)): Value | undefined {
    const at = hash & this.mask;
    const first = this.heads[at];
    for (let node = first; node !== undefined; node = node.next)
      if (node.hash === hash && node.key === key) return node.value;
    this.heads[at] = new Node(key, hash, value, first);
    this.size++;
    if (this.size > this.mask) this.grow();
    return undefined;
  }

  /** @param value delete the key only if it has this one */
  delete(key: string, hash = hashOf(key), value?: Value): boolean {
    const at = hash & this.mask;
    let before: Node<Value> | undefined;
    for (let node = this.heads[at]; node !== undefined; before = node, node = node.next) {
      if (node.hash !== hash || node.key !== key) continue;
      if (value !== undefined && node.value !== value) return false;
      if (before === undefined) this.heads[at] = node.next;
      else before.next = node.next;
      node.next = undefined;
      node.value = undefined;
      this.size--;
      return true;
    }
    return false;
  }

  private grow(): void {
    const heads: (Node<Value> | undefined)[] = new Array(2 * this.heads.length).fill(undefined);
    this.mask = heads.length - 1;
    for (let node of this.heads) {
      while (node !== undefined) {
        const { next, hash } = node;
        node.next = heads[hash & this.mask];
        heads[hash & this.mask] = node;
        node = next;
      }
    }
    this.heads = heads;
  }
}
