/** The text of one page, as bytes from its first line on: a string of several megabytes would be copied for each reader. */

/** A page needs about as many bytes as the one before it, and some more lines. */
const GROWTH = 1.0625;
const LEAST_BYTES = 65_536;
/** UTF-8 has at most so many bytes for a unit of a string. */
const MOST_BYTES_A_UNIT = 3;

export class PageText {
  private buffer: Buffer;
  private length = 0;

  /** @param expectedBytes of the page before */
  constructor(expectedBytes: number) {
    this.buffer = Buffer.allocUnsafeSlow(Math.max(LEAST_BYTES, Math.ceil(expectedBytes * GROWTH)));
  }

  /** @param from where in the text to begin */
  add(text: string, from = 0): void {
    const part = from === 0 ? text : text.slice(from);
    if (this.length + MOST_BYTES_A_UNIT * part.length > this.buffer.length) this.makeRoom(part);
    this.length += this.buffer.write(part, this.length);
  }

  private makeRoom(part: string): void {
    const neededBytes = this.length + Buffer.byteLength(part);
    if (neededBytes <= this.buffer.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(2 * this.buffer.length, neededBytes));
    this.buffer.copy(larger, 0, 0, this.length);
    this.buffer = larger;
  }

  /** The whole text. Add nothing after this. */
  get bytes(): Buffer {
    return this.buffer.subarray(0, this.length);
  }
}
