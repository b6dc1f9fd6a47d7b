/**
 * Finds the bytes of a request that are certainly no text: pictures and sounds. Token budgets count every other byte. Pure.
 *
 * Servers read a request in different ways: one takes the last of two equal keys, another ignores the case of a key. So a
 * string is data only if every server takes it for data:
 *
 *     {"type":"image_url","image_url":{"url":"data:image/png;base64,…"}}     the string of `url`
 *     {"type":"image","source":{"type":"base64","data":"…"}}                  the string of `data`
 *     {"type":"image","type":"document","source":{…}}                         nothing: its type is there twice
 *     {"type":"file","file":{"file_data":"…"}}                                nothing: a file may hold text
 */

/** Parts of messages stand no deeper; deeper values count with the value around them. */
export const MAX_PART_DEPTH = 10;
/** An empty column by depth. It is long enough for most requests: growing it would cost more than a small body does. */
export const NO_LEVELS: readonly number[] = Array.from({ length: MAX_PART_DEPTH + 1 }, () => 0);
/** How many bytes of a string show whether it is data. */
const PREFIX_BYTES = 16;
const DATA_URL = /^data:(?:image|audio|video)\\?\//i;
const BASE64 = /^[\w+/=\\-]{16}/;
const WEB_URL = /^https?:/i;

/** Types of parts that hold a picture or a sound. */
const DATA_TYPES: ReadonlySet<string> = new Set(['image_url', 'input_image', 'image', 'input_audio']);

// What a key says about its value.
const PLAIN = 0;
const TYPE = 1;
/** Its string may be a data URL. */
const LINK = 2;
/** Its string may be base64. */
const DATA = 3;
/** Its string names a file that the provider holds, or fetches. */
const NAME = 4;
/** It has escapes: a server may read it as `type`. */
const ESCAPED = 5;
/** Its string names a file, whatever stands around it: Gemini's parts have no `type`. */
const FILE_URI = 6;

class Level {
  types = 0;
  isData = false;
  isFile = false;
  /** Files that the request names and does not contain. */
  named = 0;
  /** The bytes of the longest string that is data. */
  longest = 0;
  /** The bytes of all parts inside. */
  bytes = 0;
}

export class DataParts {
  /** Files that the request names and does not contain. */
  namedFiles = 0;
  private readonly levels = Array.from({ length: MAX_PART_DEPTH + 1 }, () => new Level());
  private kind = PLAIN;
  /** The beginning of the present string; undefined where it can't be data. */
  private prefix: string | undefined = undefined;

  /** The bytes of pictures and sounds, once the whole request has come. */
  get bytes(): number {
    return this.levels[0]!.bytes;
  }

  /** An object or array begins. */
  open(depth: number): void {
    this.kind = PLAIN;
    const level = this.levels[depth];
    if (level === undefined) return;
    level.types = 0;
    level.isData = false;
    level.isFile = false;
    level.named = 0;
    level.longest = 0;
    level.bytes = 0;
  }

  close(depth: number): void {
    this.kind = PLAIN;
    const level = this.levels[depth];
    const outer = this.levels[depth - 1];
    if (level === undefined || outer === undefined) return;
    if (level.isFile) this.namedFiles += level.named;
    if (!level.isData && !level.isFile) {
      outer.bytes += level.bytes;
      outer.named += level.named;
    } else if (level.isData && level.types === 1) {
      outer.bytes += level.longest;
    }
    outer.longest = Math.max(outer.longest, level.longest);
  }

  /** A key of an object at this depth. */
  key(depth: number, piece: Buffer, start: number, end: number): void {
    const kind = kindOfKey(piece, start, end);
    this.kind = kind;
    const level = this.levels[depth];
    if (level === undefined) return;
    if (kind === TYPE) level.types++;
    else if (kind === ESCAPED) level.types += 2;
  }

  /** The value of a key `type` that names a part. */
  type(depth: number, type: string): void {
    const level = this.levels[depth];
    if (level === undefined) return;
    if (DATA_TYPES.has(type)) level.isData = true;
    else level.isFile = true;
  }

  /** A string begins that is a value. */
  beginString(piece: Buffer, start: number): void {
    const asks = this.kind === LINK || this.kind === DATA;
    this.prefix = asks ? piece.toString('latin1', start, start + PREFIX_BYTES) : undefined;
  }

  /** The string goes on in another piece. */
  goOn(piece: Buffer): void {
    if (this.prefix !== undefined && this.prefix.length < PREFIX_BYTES)
      this.prefix += piece.toString('latin1', 0, PREFIX_BYTES - this.prefix.length);
  }

  /** The string has ended. */
  endString(depth: number, bytes: number): void {
    const kind = this.kind;
    const prefix = this.prefix ?? '';
    this.kind = PLAIN;
    this.prefix = undefined;
    if (kind === FILE_URI) this.namedFiles++;
    const level = this.levels[depth];
    if (level === undefined || kind === PLAIN) return;
    if (kind === NAME || (kind === LINK && WEB_URL.test(prefix))) level.named++;
    else if ((kind === LINK && DATA_URL.test(prefix)) || (kind === DATA && BASE64.test(prefix)))
      level.longest = Math.max(level.longest, bytes);
  }
}

/** Some servers ignore the case of keys, so a key that makes data count as text is found in any case. */
function kindOfKey(piece: Buffer, start: number, end: number): number {
  switch (end - start) {
    case 3:
      return spells(piece, start, 'url', 0) ? LINK : PLAIN;
    case 4:
      if (spells(piece, start, 'type', 0x20)) return TYPE;
      return spells(piece, start, 'data', 0) ? DATA : PLAIN;
    case 7:
      if (spells(piece, start, 'fileuri', 0x20)) return FILE_URI;
      return spells(piece, start, 'file_id', 0x20) ? NAME : PLAIN;
    case 8:
      if (spells(piece, start, 'file_uri', 0x20)) return FILE_URI;
      return spells(piece, start, 'file_url', 0x20) ? NAME : PLAIN;
    case 9:
      if (spells(piece, start, 'image_url', 0)) return LINK;
      return hasEscape(piece, start, end) ? ESCAPED : PLAIN;
    // `type` with two, three and four of its letters as \u0074.
    case 14:
    case 19:
    case 24:
      return hasEscape(piece, start, end) ? ESCAPED : PLAIN;
    default:
      return PLAIN;
  }
}

/** @param caseBit 0x20 to ignore the case of letters, 0 to heed it */
function spells(piece: Buffer, start: number, word: string, caseBit: number): boolean {
  for (let i = 0; i < word.length; i++)
    if ((piece[start + i]! | caseBit) !== (word.charCodeAt(i) | caseBit)) return false;
  return true;
}

function hasEscape(piece: Buffer, start: number, end: number): boolean {
  for (let at = start; at < end; at++) if (piece[at] === 0x5c) return true;
  return false;
}
