/** Finds running calls by an id that several of them may share. */
import { ChurnMap, hashOf } from '../collections/churn-map.ts';

/** Running calls by an id that several may share, though most do not. The index ignores ''. */
export class CallIndex<Call> {
  private readonly singles = new ChurnMap<Call>();
  private readonly shared = new ChurnMap<Set<Call>>();

  /** @returns one of the calls with the same id; undefined when there is no other */
  add(key: string, call: Call): Call | undefined {
    if (key === '') return undefined;
    const hash = hashOf(key);
    const sharing = this.shared.size === 0 ? undefined : this.shared.get(key, hash);
    if (sharing !== undefined) {
      const [other] = sharing;
      sharing.add(call);
      return other;
    }
    const single = this.singles.add(key, call, hash);
    if (single === undefined || single === call) return undefined;
    this.singles.delete(key, hash);
    this.shared.set(key, new Set([single, call]), hash);
    return single;
  }

  /** @returns the id's hash; 0 for '' */
  delete(key: string, call: Call): number {
    if (key === '') return 0;
    const hash = hashOf(key);
    if (this.singles.delete(key, hash, call) || this.shared.size === 0) return hash;
    const sharing = this.shared.get(key, hash);
    if (sharing?.delete(call) !== true || sharing.size > 1) return hash;
    this.shared.delete(key, hash);
    for (const last of sharing) this.singles.set(key, last, hash);
    return hash;
  }

  /** The one call with this id; undefined when there is none, or more than one. */
  only(key: string): Call | undefined {
    return key === '' ? undefined : this.singles.get(key);
  }

  /** The calls that share the id, at least two, in the order in which they were added. */
  several(key: string): ReadonlySet<Call> | undefined {
    return key === '' || this.shared.size === 0 ? undefined : this.shared.get(key);
  }

  /** Whether one of the calls with this id passes the check. */
  some(key: string, check: (call: Call) => boolean): boolean {
    if (key === '') return false;
    const hash = hashOf(key);
    const single = this.singles.get(key, hash);
    if (single !== undefined) return check(single);
    const sharing = this.shared.size === 0 ? undefined : this.shared.get(key, hash);
    if (sharing === undefined) return false;
    for (const call of sharing) if (check(call)) return true;
    return false;
  }
}
