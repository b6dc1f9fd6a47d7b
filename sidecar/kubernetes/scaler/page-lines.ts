/**
 * Cuts the bytes of a page of metrics into lines while they come, so that no more of a page is held than the line that has
 * begun, whatever the pod sends.
 */
import { PageError } from './page-error.ts';

/** A sidecar's lines have a few hundred characters. */
export const MAX_LINE_CHARS = 16_384;
/** A page with all of the models and methods that a sidecar counts by name has less. */
export const MAX_PAGE_BYTES = 16 << 20;

export class PageLines {
  private readonly onLine: (line: string) => void;
  private readonly decoder = new TextDecoder();
  private begun = '';
  private bytes = 0;

  constructor(onLine: (line: string) => void) {
    this.onLine = onLine;
  }

  /** @throws PageError when a line or the page is too long */
  add(part: Uint8Array): void {
    this.bytes += part.length;
    if (this.bytes > MAX_PAGE_BYTES) throw new PageError(`it has more than ${MAX_PAGE_BYTES >> 20} MiB`);
    const text = this.begun + this.decoder.decode(part, { stream: true });
    let start = 0;
    for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n', start)) {
      this.take(text.slice(start, end));
      start = end + 1;
    }
    this.begun = checked(text.slice(start));
  }

  /** The last line may lack its end. */
  end(): void {
    const last = this.begun + this.decoder.decode();
    this.begun = '';
    if (last !== '') this.take(last);
  }

  private take(line: string): void {
    this.onLine(checked(line));
  }
}

/** Before anything else looks at it: some patterns need a stack as long as the line. */
function checked(line: string): string {
  if (line.length > MAX_LINE_CHARS) throw new PageError(`a line has more than ${MAX_LINE_CHARS} characters`);
  return line;
}
