import { DynamicTable } from './dynamic-table.ts';
import { STATIC_ENTRIES } from './static-table.ts';

interface NameEntries {
  /** Serial number of the newest entry with the name. */
  newest: number;
  /** Serial number of the newest entry with the name and each value. */
  readonly byValue: Map<string, number>;
}

/** The encoder's side of the dynamic table: it can be searched by name, and by name and value. */
export class IndexedTable extends DynamicTable {
  readonly #byName = new Map<string, NameEntries>();

  /** The wire's index of an entry that has the name, or 0. */
  indexOfName(name: string): number {
    const entries = this.#byName.get(name);
    return entries === undefined ? 0 : this.#index(entries.newest);
  }

  /** The wire's index of the entry that is the pair, or 0. */
  indexOf(name: string, value: string): number {
    const serial = this.#byName.get(name)?.byValue.get(value);
    return serial === undefined ? 0 : this.#index(serial);
  }

  override insert(name: string, value: string): boolean {
    if (!super.insert(name, value)) return false;
    const serial = this.nextSerial - 1;
    const entries = this.#byName.get(name);
    if (entries === undefined) {
      this.#byName.set(name, { newest: serial, byValue: new Map([[value, serial]]) });
    } else {
      entries.newest = serial;
      entries.byValue.set(value, serial);
    }
    return true;
  }

  protected override evicted(serial: number, name: string, value: string): void {
    const entries = this.#byName.get(name)!;
    // The oldest leaves first: when it is also the name's newest, it was the name's last.
    if (entries.newest === serial) this.#byName.delete(name);
    else if (entries.byValue.get(value) === serial) entries.byValue.delete(value);
  }

  #index(serial: number): number {
    return STATIC_ENTRIES + this.nextSerial - serial;
  }
}
