/** The size of a field beside its name and value, in a header list (RFC 9113 §6.5.2) and a table (RFC 7541 §4.1). */
export const FIELD_OVERHEAD_BYTES = 32;

const SPACE = 0x20;

/**
 * The types of what others derive from a list, by names of their choice. A file that fills {@link HeaderList.view} adds its
 * type by module augmentation, so that HPACK needs no import of it.
 *
 * @public
 */
// biome-ignore lint/suspicious/noEmptyInterface: `head.ts` adds to it.
export interface ListViews {}

/**
 * A decoded header block, in wire order. Its fields never change. Strings are Latin-1, one character a byte, so that bytes
 * outside ASCII pass through a relay unchanged.
 */
export class HeaderList {
  /** name0, value0, name1, value1, … */
  readonly fields: readonly string[];
  /**
   * The ordinals (0 = first field), ascending, of the fields that arrived as never-indexed literals. An intermediary must
   * pass them on in that form (RFC 7541 §6.2.3).
   */
  readonly neverIndexed: readonly number[] | undefined;
  /** The size that limits refer to: each field's name, value and 32 bytes (RFC 9113 §6.5.2). */
  readonly listBytes: number;
  /** The list exceeds the decoder's maxListBytes: `fields` has those up to the limit, and `listBytes` is the whole size. */
  readonly oversize: boolean;
  /** The decoder has returned the list from its memo. Only then is caching by identity useful. */
  shared = false;
  /** One slot for what the layer above derives from the fields. */
  view: ListViews[keyof ListViews] | undefined = undefined;

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

  /** The same without white space at its ends, which means nothing (RFC 9110 §5.5), for values that we read. */
  getTrimmed(name: string): string | undefined {
    const value = this.get(name);
    return value === undefined ? undefined : trimmed(value);
  }
}

/** The value without white space at its ends. */
export function trimmed(value: string): string {
  const last = value.length - 1;
  return last >= 0 && (value.charCodeAt(0) <= SPACE || value.charCodeAt(last) <= SPACE)
    ? value.trim()
    : value;
}

/**
 * Returns the list without the fields for which `drops` returns true, followed by `added`. Never-indexed fields stay so (RFC
 * 7541 §7.1.3).
 */
export function copyWithout(
  list: HeaderList,
  drops: (name: string) => boolean,
  added: readonly string[] = [],
): HeaderList {
  const fields: string[] = [];
  let neverIndexed: number[] | undefined;
  let { listBytes } = list;
  for (let i = 0; i < list.fields.length; i += 2) {
    const name = list.fields[i]!;
    const value = list.fields[i + 1]!;
    if (drops(name)) {
      listBytes -= name.length + value.length + FIELD_OVERHEAD_BYTES;
      continue;
    }
    if (list.neverIndexed?.includes(i >> 1)) (neverIndexed ??= []).push(fields.length >> 1);
    fields.push(name, value);
  }
  for (let i = 0; i < added.length; i += 2) {
    fields.push(added[i]!, added[i + 1]!);
    listBytes += added[i]!.length + added[i + 1]!.length + FIELD_OVERHEAD_BYTES;
  }
  const copy = new HeaderList(fields, neverIndexed, listBytes);
  copy.shared = list.shared;
  return copy;
}

/** The size of fields as RFC 9113 §6.5.2 counts it. */
export function sizeOf(fields: readonly string[]): number {
  let bytes = (fields.length >> 1) * FIELD_OVERHEAD_BYTES;
  for (const part of fields) bytes += part.length;
  return bytes;
}
