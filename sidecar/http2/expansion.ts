/** Bounds how far a peer can expand small header blocks into large lists. */
import { FIELD_OVERHEAD_BYTES, HeaderList } from './hpack/header-list.ts';

/**
 * The free size of a header list, beside eight times the size of its block: each entry of both tables once, and more. Only a
 * peer that refers to the same entries repeatedly exceeds both.
 */
const FREE_BYTES = 8_192;
const FREE_FACTOR = 8;
/** The excess of one caller's or endpoint's lists that we allow at once, and in each second. */
const BURST_BYTES = 4_194_304;
const BYTES_PER_SECOND = 1_048_576;

/** The remaining allowance of a caller, over all its connections, or of a connection to an endpoint. */
export class ExpansionAllowance {
  private leftBytes = BURST_BYTES;
  /** NaN until the allowance first did not suffice. */
  private refilledAtMs = Number.NaN;

  spend(bytes: number, clock: () => number): boolean {
    if (bytes > this.leftBytes) {
      const nowMs = clock();
      const sinceMs = Number.isNaN(this.refilledAtMs) ? 0 : nowMs - this.refilledAtMs;
      const refilled = (sinceMs / 1000) * BYTES_PER_SECOND;
      this.leftBytes = Math.min(BURST_BYTES, this.leftBytes + refilled);
      this.refilledAtMs = nowMs;
      if (bytes > this.leftBytes) return false;
    }
    this.leftBytes -= bytes;
    return true;
  }
}

/** A connection whose caller, if any, has an allowance over all its connections. */
interface OfCaller {
  readonly caller: { readonly expansion: ExpansionAllowance } | undefined;
}

/**
 * Bounds how far header blocks may expand (RFC 7541 §7.3): one byte of a block may stand for a field of the size of the whole
 * table, and a dozen bytes for a list that costs us, and its receivers, hundreds of times as much. A list beyond the bound is
 * treated as too large, which fails its call and not the connection.
 */
export class Expansion {
  private readonly clock: () => number;
  private readonly kept: ReadonlySet<string>;
  private readonly own = new ExpansionAllowance();

  /** @param kept the names of fields that we keep of a list beyond the bound, wherever they stand in it */
  constructor(clock: () => number, kept: ReadonlySet<string>) {
    this.clock = clock;
    this.kept = kept;
  }

  /** Returns the list, or beyond the bound its beginning, marked as oversize. */
  admit(list: HeaderList, blockBytes: number, held?: OfCaller): HeaderList {
    const excess = list.listBytes - FREE_FACTOR * blockBytes - FREE_BYTES;
    if (excess <= 0 || list.oversize || this.allowanceOf(held).spend(excess, this.clock)) return list;
    return this.cut(list);
  }

  private allowanceOf(held: OfCaller | undefined): ExpansionAllowance {
    return held?.caller?.expansion ?? this.own;
  }

  private cut({ fields, listBytes, neverIndexed }: HeaderList): HeaderList {
    const beginning: string[] = [];
    let bytes = 0;
    for (let i = 0; i < fields.length; i += 2) {
      const name = fields[i]!;
      bytes += name.length + fields[i + 1]!.length + FIELD_OVERHEAD_BYTES;
      if (bytes <= FREE_BYTES || (this.kept.has(name) && !beginning.includes(name)))
        beginning.push(name, fields[i + 1]!);
    }
    // No endpoint receives this list.
    return new HeaderList(beginning, neverIndexed, listBytes, true);
  }
}
