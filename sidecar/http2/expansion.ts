import { FIELD_OVERHEAD_BYTES, HeaderList } from './hpack/header-list.ts';

/**
 * What a header list may have for nothing beside eight times its block, which is more than short fields of their own come to:
 * each entry of both tables once, and more. Whoever refers to no entry over and over again never has more.
 */
const FREE_BYTES = 8_192;
const FREE_FACTOR = 8;
/** What more than that one caller's lists, or one endpoint's, may come to at once, and in each second. */
const BURST_BYTES = 4_194_304;
const BYTES_PER_SECOND = 1_048_576;

/** What of it is left to a caller, over all its connections, or to the connection to an endpoint. */
export class ExpansionAllowance {
  private leftBytes = BURST_BYTES;
  /** NaN before the first time that it did not suffice. */
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

/** A connection whose caller, where it has one, has an allowance over all its connections. */
interface OfCaller {
  readonly caller: { readonly expansion: ExpansionAllowance } | undefined;
}

/**
 * Bounds how much a peer may have decoded from little (RFC 7541 §7.3): a byte of a header block may stand for a field of the
 * size of the whole table, and a dozen of them for a list that costs us, and those to whom it goes, hundreds of times as
 * much. Lists beyond the bound are as those that are too large: the call is answered, not the connection.
 */
export class Expansion {
  private readonly clock: () => number;
  private readonly kept: ReadonlySet<string>;
  private readonly own = new ExpansionAllowance();

  /** @param kept names of fields that are kept of a list beyond the bound, wherever they stand in it */
  constructor(clock: () => number, kept: ReadonlySet<string>) {
    this.clock = clock;
    this.kept = kept;
  }

  /** The list that so many bytes of a block stood for; its beginning, marked as oversize, where it is beyond the bound. */
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
    // Nobody sends it on.
    return new HeaderList(beginning, neverIndexed, listBytes, true);
  }
}
