/**
 * Reads a `content-length` that a provider sends twice, with the same value, as one (RFC 9110, section 8.6): Node's parser
 * refuses it, lenient or not. Lengths that differ stay as they are, and the parser refuses them.
 */

/** A longer head ends the attempt: the parser would refuse it. */
const MAX_HEAD_BYTES = 131_072;
const NAME = 'content-length';
const LENGTH = /^content-length[ \t]*:(.*)$/i;
/** A whole head, with no interim answer before it. */
const PLAIN_HEAD = /^HTTP\/1\.\d [2-5][\s\S]*?\r?\n\r?\n/;
const PLAIN_BYTES = 16_384;
const LENGTHS = /^content-length[ \t]*:/gim;

/** Passes on the head of the next answer on a connection at once, but for a line that may be a second length. */
export class Heads {
  /** The whole head has passed, or is no longer checked. */
  isOver = false;
  /** More has come than a head may have, and it has not ended: interim answers without an end (RFC 9110, section 15.2). */
  isEndless = false;
  /** The bytes so far. */
  bytes = 0;
  /** The beginning of a line that may be a length, or the end of the head. */
  private held = '';
  private startsLine = true;
  /** The status line, or the part of it that has come. */
  private status = '';
  private hasStatus = false;
  private length: string | undefined = undefined;

  /** Whether the answer begins with a whole head that needs no change: the usual case. */
  isPlain(chunk: Buffer): boolean {
    return this.bytes === 0 && isPlain(chunk);
  }

  push(chunk: Buffer): Buffer {
    if (this.isPlain(chunk)) {
      this.isOver = true;
      return chunk;
    }
    this.bytes += chunk.length;
    const text = this.held + chunk.toString('latin1');
    this.held = '';
    let passed = '';
    let at = 0;
    while (at < text.length && !this.isOver) {
      const newline = text.indexOf('\n', at);
      const end = newline < 0 ? text.length : newline + 1;
      passed += this.line(text.slice(at, end), newline >= 0);
      at = end;
    }
    if (!this.isOver && this.bytes > MAX_HEAD_BYTES) {
      this.isOver = true;
      this.isEndless = true;
    }
    if (this.isOver) passed += this.held + text.slice(at);
    return Buffer.from(passed, 'latin1');
  }

  /** Takes a line; returns what of it passes on. @param isWhole the line has its end */
  private line(line: string, isWhole: boolean): string {
    const starts = this.startsLine;
    if (!isWhole && starts && this.hasStatus && (line === '\r' || mayBeLength(line))) {
      this.held = line;
      return '';
    }
    this.startsLine = isWhole;
    if (!this.hasStatus) {
      this.status += line.slice(0, 16);
      this.hasStatus = isWhole;
      return line;
    }
    if (!starts || !isWhole) return line;
    const text = line.trimEnd();
    if (text === '') {
      // Another head follows an interim answer's.
      this.isOver = !/^HTTP\/1\.\d 1/.test(this.status);
      this.status = '';
      this.hasStatus = false;
      this.length = undefined;
      return line;
    }
    const values = LENGTH.exec(text)?.[1]
      ?.split(',')
      .map((value) => value.trim());
    if (values === undefined || values.some((value) => value !== values[0])) return line;
    const isKnown = values[0] === this.length;
    this.length ??= values[0];
    if (isKnown) return '';
    return values.length === 1 ? line : `${NAME}: ${values[0]}\r\n`;
  }
}

function isPlain(chunk: Buffer): boolean {
  const head = PLAIN_HEAD.exec(chunk.toString('latin1', 0, PLAIN_BYTES))?.[0];
  if (head === undefined) return false;
  const lengths = head.match(LENGTHS);
  return lengths === null || (lengths.length === 1 && !/^content-length[^\n]*,/im.test(head));
}

function mayBeLength(line: string): boolean {
  const begun = line.toLowerCase();
  return NAME.startsWith(begun) || begun.startsWith(NAME);
}
