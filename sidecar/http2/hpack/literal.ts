import { knownNames } from './field-treatment.ts';
import { integerSize, stringSize, writeInteger, writeString } from './primitives.ts';

/** First bits of a literal that no table takes in (RFC 7541 §6.2.2), and of one that no hop may index (§6.2.3). */
export const WITHOUT_INDEXING = 0x00;
export const NEVER_INDEXED = 0x10;

const NAME_PREFIX = 0x0f;

/** Bytes that writeLiteral takes for the field. */
export function literalSize(name: string, value: string): number {
  const index = knownNames.get(name)?.static?.index;
  const nameBytes = index === undefined ? 1 + stringSize(name) : integerSize(NAME_PREFIX, index);
  return nameBytes + stringSize(value);
}

/**
 * Writes a field as a literal that leaves the tables alone, for what varies from call to call: it may follow
 * any encoded block. Names are lower-case. A secret's goes as never indexed. Returns the new offset.
 */
export function writeLiteral(out: Buffer, offset: number, name: string, value: string): number {
  const known = knownNames.get(name);
  const flags = known?.treatment === 'secret' ? NEVER_INDEXED : WITHOUT_INDEXING;
  return writeLiteralField(out, offset, flags, NAME_PREFIX, known?.static?.index ?? 0, name, value);
}

/** Writes a literal field (§6.2) of any kind; nameIndex 0 spells the name out. Returns the new offset. */
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
