/** Keeps who has spent most, within bounds: the names that spend least are forgotten first. */

const MAX_NAMES = 1_000;

export interface Spender {
  readonly name: string;
  /** Nano-dollars. */
  readonly nanos: number;
}

export class Spenders {
  private readonly byName = new Map<string, number>();

  /** @param name '' is nobody */
  add(name: string, nanos: number): void {
    if (name === '' || nanos <= 0) return;
    this.byName.set(name, (this.byName.get(name) ?? 0) + nanos);
    if (this.byName.size > MAX_NAMES) this.forget();
  }

  /** The names that have spent most, first. */
  top(count: number): readonly Spender[] {
    const all = Array.from(this.byName, ([name, nanos]) => ({ name, nanos }));
    return all.sort((one, other) => other.nanos - one.nanos).slice(0, count);
  }

  /** Half of them at once, so that it is seldom. */
  private forget(): void {
    const kept = this.top(MAX_NAMES / 2);
    this.byName.clear();
    for (const { name, nanos } of kept) this.byName.set(name, nanos);
  }
}
