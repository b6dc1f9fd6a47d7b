/** Keeps the requests that wait for the next transaction of a file, and decides how many of them it takes. */
import { sizeOf } from './message-bytes.ts';
import type { Request } from './requests.ts';

/** A transaction takes so much at most: others wait for it. */
const REQUESTS_AT_ONCE = 256;
const BYTES_AT_ONCE = 8 << 20;

export class RequestQueue {
  private requests: Request[] = [];

  get isEmpty(): boolean {
    return this.requests.length === 0;
  }

  add(request: Request): void {
    this.requests.push(request);
  }

  /** Nobody wants its answer any more. @returns whether it was here */
  remove(id: number): boolean {
    const { length } = this.requests;
    this.requests = this.requests.filter((request) => request.id !== id);
    return this.requests.length < length;
  }

  /** Takes out those of one transaction. */
  takeNext(): Request[] {
    let bytes = 0;
    let count = 0;
    while (count < this.requests.length && count < REQUESTS_AT_ONCE && bytes < BYTES_AT_ONCE)
      bytes += sizeOf(this.requests[count++]!);
    return this.requests.splice(0, count);
  }
}
