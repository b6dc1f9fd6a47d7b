/** The encoder's table, with a look-up by name and value. */
import { DynamicTable } from './dynamic-table.ts';
import { type KnownName, knownNames, type Treatment } from './field-treatment.ts';
import { STATIC_ENTRIES } from './static-table.ts';

/** No entry, because serial numbers count from 0. */
const NONE = -1;

/** The entries of both tables for a name, so that a field costs one look-up by its name. */
export interface NameEntries {
  readonly treatment: Treatment;
  /** The index of the name in the static table, or 0. */
  readonly staticIndex: number;
  /** The static indexes by value; undefined if the static table has the name only with '', or not at all. */
  readonly staticValues: ReadonlyMap<string, number> | undefined;
  /** The serial number of the dynamic table's newest entry with the name, or NONE. */
  newest: number;
  /** The serial numbers of the entries with the name, by value. */
  readonly byValue: Map<string, number>;
}

/** The encoder's dynamic table, which it can search; it includes the static table. */
export class IndexedTable extends DynamicTable {
  /** The names in the dynamic table, and the known names that were looked up: both are few. */
  private readonly byName = new Map<string, NameEntries>();

  private readonly known: ReadonlyMap<string, KnownName>;

  /** @param known how to treat names for which we know it beforehand */
  constructor(known = knownNames) {
    super();
    this.known = known;
  }

  /** Returns the entries of a name; undefined if the tables have none. */
  find(name: string): NameEntries | undefined {
    const entries = this.byName.get(name);
    if (entries !== undefined) return entries;
    const known = this.known.get(name);
    return known && this.add(name, known);
  }

  /** Returns the index of the pair on the wire, or 0. */
  indexOfPair(entries: NameEntries, value: string): number {
    if (entries.staticValues !== undefined) {
      const index = entries.staticValues.get(value);
      if (index !== undefined) return index;
    } else if (value === '' && entries.staticIndex !== 0) {
      return entries.staticIndex;
    }
    if (entries.newest === NONE) return 0;
    const serial = entries.byValue.get(value);
    return serial === undefined ? 0 : this.index(serial);
  }

  /** Returns the index of the name on the wire, or 0. Static indexes are shorter and never change. */
  indexOfName(entries: NameEntries): number {
    if (entries.staticIndex !== 0) return entries.staticIndex;
    return entries.newest === NONE ? 0 : this.index(entries.newest);
  }

  /** Inserts a pair that the table does not hold. */
  override insert(name: string, value: string): boolean {
    if (!super.insert(name, value)) return false;
    const serial = this.nextSerial - 1;
    const entries = this.find(name) ?? this.add(name, undefined);
    entries.newest = serial;
    entries.byValue.set(value, serial);
    return true;
  }

  protected override evicted(serial: number, name: string, value: string): void {
    const entries = this.byName.get(name)!;
    // The oldest entry leaves first. If it is also the newest of its name, the name has no other entry.
    if (entries.newest === serial) this.byName.delete(name);
    else entries.byValue.delete(value);
  }

  private add(name: string, known: KnownName | undefined): NameEntries {
    const values = known?.static?.values;
    const entries = {
      treatment: known?.treatment ?? 'repeats',
      staticIndex: known?.static?.index ?? 0,
      staticValues: values === undefined || (values.size === 1 && values.has('')) ? undefined : values,
      newest: NONE,
      byValue: new Map<string, number>(),
    };
    this.byName.set(name, entries);
    return entries;
  }

  private index(serial: number): number {
    return STATIC_ENTRIES + this.nextSerial - serial;
  }
}
