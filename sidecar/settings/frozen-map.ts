/** A map that never changes. */

/** Object.freeze does not protect a Map's entries, so this Map refuses changes itself. */
export class FrozenMap<K, V> extends Map<K, V> {
  private frozen = false;

  constructor(entries: Iterable<readonly [K, V]>) {
    super();
    for (const [key, value] of entries) super.set(key, value);
    this.frozen = true;
  }

  override set(key: K, value: V): this {
    if (this.frozen) throw new TypeError('the configuration can not be changed; load a new one');
    return super.set(key, value);
  }

  override delete(): boolean {
    throw new TypeError('the configuration can not be changed; load a new one');
  }

  override clear(): void {
    throw new TypeError('the configuration can not be changed; load a new one');
  }
}
