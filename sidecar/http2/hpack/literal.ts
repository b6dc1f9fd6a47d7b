/** Writes literal header fields (RFC 7541 §6.2). */
import { knownNames } from './field-treatment.ts';
import { integerSize, stringSize, writeInteger, writeString } from './primitives.ts';

/** The first bits of a literal without indexing (RFC 7541 §6.2.2), and of a never-indexed one (§6.2.3). */
export const WITHOUT_INDEXING = 0x00;
export const NEVER_INDEXED = 0x10;

const NAME_PREFIX = 0x0f;

/** The bytes that writeLiteral writes for the field. */
export function literalSize(name: string, value: string): number {
  const index = knownNames.get(name)?.static?.index;
  const nameBytes = index === undefined ? 1 + stringSize(name) : integerSize(NAME_PREFIX, index);
  return nameBytes + stringSize(value);
}

/**
 * Writes a field as a literal that does not change the tables, for values that differ between calls. It may follow any encoded
 * block. Names are lower-case. A secret is never indexed. Returns the new offset.
 */
export function writeLiteral(out: Buffer, offset: number, name: string, value: string): number {
  const known = knownNames.get(name);
  const flags = known?.treatment === 'secret' ? NEVER_INDEXED : WITHOUT_INDEXING;
  return writeLiteralField(out, offset, flags, NAME_PREFIX, known?.static?.index ?? 0, name, value);
}

/** Writes a literal field (§6.2) of any kind; with nameIndex 0 also its name. Returns the new offset. */
export function writeLiteralField(
  out: Buffer,
  offset: number,
  flags: number,
  prefix: number,
  nameIndex: number,
  name: string,
  value: string,
): number {
  let at = writeInteger(out, offset, flags, prefix, nameIndex);
  if (nameIndex === 0) at = writeString(out, at, name);
  return writeString(out, at, value);
}
