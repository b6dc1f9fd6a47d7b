import { ChurnMap, hashOf } from '../collections/churn-map.ts';

/** Running calls by a text that several may share; most do not. A text of '' is none. */
export class CallIndex<Call> {
  private readonly singles = new ChurnMap<Call>();
  private readonly shared = new ChurnMap<Set<Call>>();

  /** @returns whether others have the same text */
  add(key: string, call: Call): boolean {
    if (key === '') return false;
    const hash = hashOf(key);
    const sharing = this.shared.size === 0 ? undefined : this.shared.get(key, hash);
    if (sharing !== undefined) {
      sharing.add(call);
      return true;
    }
    const single = this.singles.get(key, hash);
    if (single === undefined || single === call) {
      this.singles.set(key, call, hash);
      return false;
    }
    this.singles.delete(key, hash);
    this.shared.set(key, new Set([single, call]), hash);
    return true;
  }

  delete(key: string, call: Call): void {
    if (key === '') return;
    const hash = hashOf(key);
    if (this.singles.get(key, hash) === call) {
      this.singles.delete(key, hash);
      return;
    }
    const sharing = this.shared.get(key, hash);
    if (sharing?.delete(call) !== true || sharing.size > 1) return;
    this.shared.delete(key, hash);
    for (const last of sharing) this.singles.set(key, last, hash);
  }

  /** The one call with this text; undefined when there is none, or more than one. */
  only(key: string): Call | undefined {
    return key === '' ? undefined : this.singles.get(key);
  }

  /** The calls that share the key, two at least, in the order of their addition. */
  several(key: string): ReadonlySet<Call> | undefined {
    return key === '' || this.shared.size === 0 ? undefined : this.shared.get(key);
  }
}
