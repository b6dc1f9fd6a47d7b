/** Keeps an upstream's key from the agent: masks it in an answer's headers, and in the body of an error. */
import type { HttpHeaders } from '../shared/headers.ts';
import type { Sink } from './sink.ts';

/** Shorter keys are placeholders, such as `none`, and may be words of an answer. */
const MIN_KEY_BYTES = 8;
const MASK = 0x2a;

/**
 * Masks the upstream's own key in headers and in the body of an error: a provider may repeat the key that it refuses, and
 * the agent must not learn it. Each byte becomes a `*`, so that no length changes.
 */
export class KeylessSink implements Sink {
  private readonly sink: Sink;
  #keys: readonly Buffer[] = [];
  /** The last bytes so far, if a key may begin in them. */
  private held: Buffer = Buffer.alloc(0);
  /** The body is an error, whatever its status says. */
  isError = false;

  constructor(sink: Sink) {
    this.sink = sink;
  }

  /** The keys of the upstream whose answer comes next, in every form in which they were sent. */
  set keys(keys: readonly string[]) {
    this.#keys = keys
      .filter((key) => key.length >= MIN_KEY_BYTES)
      .sort((one, other) => other.length - one.length)
      .map((key) => Buffer.from(key));
  }

  get onDrain(): () => void {
    return this.sink.onDrain;
  }

  set onDrain(listener: () => void) {
    this.sink.onDrain = listener;
  }

  head(status: number, headers: HttpHeaders): void {
    if (status >= 400) this.isError = true;
    this.sink.head(status, this.#keys.length === 0 ? headers : this.plainHeaders(headers));
  }

  flushHead(): void {
    this.sink.flushHead();
  }

  write(bytes: Buffer, completes?: boolean): boolean {
    if (!this.isError || this.#keys.length === 0) return this.sink.write(bytes, completes);
    const text = Buffer.concat([this.held, bytes]);
    this.mask(text);
    const end = text.length - this.heldBytes(text);
    this.held = text.subarray(end);
    return end === 0 || this.sink.write(text.subarray(0, end));
  }

  end(): void {
    this.flush();
    this.sink.end();
  }

  breakOff(last: Buffer | undefined): void {
    this.flush();
    this.sink.breakOff(last);
  }

  private flush(): void {
    if (this.held.length > 0) this.sink.write(this.held);
    this.held = Buffer.alloc(0);
  }

  private mask(text: Buffer): void {
    for (const key of this.#keys)
      for (let at = text.indexOf(key); at >= 0; at = text.indexOf(key, at + key.length))
        text.fill(MASK, at, at + key.length);
  }

  /** Returns how many of the last bytes may be the beginning of a key. */
  private heldBytes(text: Buffer): number {
    let most = 0;
    for (const key of this.#keys)
      for (let length = Math.min(key.length - 1, text.length); length > most; length--)
        if (text.compare(key, 0, length, text.length - length) === 0) most = length;
    return most;
  }

  private plainHeaders(headers: HttpHeaders): HttpHeaders {
    const plain: HttpHeaders = {};
    for (const name in headers) {
      const value = headers[name]!;
      plain[name] = typeof value === 'string' ? this.plain(value) : value.map((one) => this.plain(one));
    }
    return plain;
  }

  private plain(value: string): string {
    let plain = value;
    for (const key of this.#keys) plain = plain.replaceAll(String(key), '*'.repeat(key.length));
    return plain;
  }
}
