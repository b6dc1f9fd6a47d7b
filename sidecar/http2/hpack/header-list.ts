/** What a field costs beside its name and value, in a header list (RFC 9113 §6.5.2) and a table (RFC 7541 §4.1). */
export const FIELD_OVERHEAD_BYTES = 32;

/**
 * A decoded header block, in wire order. Immutable once built. Strings are latin1, one char a byte, so that
 * bytes outside ASCII pass through a relay unchanged.
 */
export class HeaderList {
  /** name0, value0, name1, value1, … */
  readonly fields: readonly string[];
  /**
   * Ordinals (0 = first field), ascending, of the fields that came as never-indexed literals. An intermediary
   * must send them on in that form (RFC 7541 §6.2.3).
   */
  readonly neverIndexed: readonly number[] | undefined;
  /** The size limits are stated in: each field's name, value and 32 bytes (RFC 9113 §6.5.2). */
  readonly listBytes: number;
  /** The block exceeded the decoder's maxListBytes: `fields` holds what came before the limit, `listBytes` the whole. */
  readonly oversize: boolean;
  /** Set once the decoder has answered from its memo: only then is caching by identity worth it. */
  shared = false;
  /** One slot for what the layer above derives from the fields. */
  view: unknown = undefined;

  constructor(
    fields: readonly string[],
    neverIndexed?: readonly number[],
    listBytes: number = sizeOf(fields),
    oversize = false,
  ) {
    this.fields = fields;
    this.neverIndexed = neverIndexed;
    this.listBytes = listBytes;
    this.oversize = oversize;
  }

  /** The first value of a field, by its lower-case name. */
  get(name: string): string | undefined {
    const fields = this.fields;
    for (let i = 0; i < fields.length; i += 2) if (fields[i] === name) return fields[i + 1];
    return undefined;
  }
}

function sizeOf(fields: readonly string[]): number {
  let bytes = (fields.length >> 1) * FIELD_OVERHEAD_BYTES;
  for (const part of fields) bytes += part.length;
  return bytes;
}
