/** Finds the open streams of a connection by their ids. */
import type { Stream } from './streams.ts';

const FIRST_CAPACITY = 8;

/**
 * The open streams of a connection, by their ids, in chains of the streams themselves. A `Map` would keep streams from the
 * garbage collector long after their end: see `collections/churn-map.ts`.
 */
export class StreamTable {
  size = 0;
  private newest: (Stream | undefined)[] = new Array(FIRST_CAPACITY).fill(undefined);
  private mask = FIRST_CAPACITY - 1;

  get(id: number): Stream | undefined {
    // All ids of one side are odd, or all are even.
    let stream = this.newest[(id >>> 1) & this.mask];
    while (stream !== undefined && stream.id !== id) stream = stream.nextInTable;
    return stream;
  }

  /** @param stream a stream whose id is not in the table */
  add(stream: Stream): void {
    if (this.size > this.mask) this.grow();
    const at = (stream.id >>> 1) & this.mask;
    stream.nextInTable = this.newest[at];
    this.newest[at] = stream;
    this.size++;
  }

  /** Does nothing if the stream is not in the table. */
  delete(stream: Stream): void {
    const at = (stream.id >>> 1) & this.mask;
    let before: Stream | undefined;
    let found = this.newest[at];
    while (found !== undefined && found !== stream) {
      before = found;
      found = found.nextInTable;
    }
    if (found === undefined) return;
    if (before === undefined) this.newest[at] = stream.nextInTable;
    else before.nextInTable = stream.nextInTable;
    stream.nextInTable = undefined;
    this.size--;
  }

  /** Iterates in no particular order. Add and delete no stream meanwhile. */
  *[Symbol.iterator](): Generator<Stream> {
    for (let stream of this.newest) for (; stream !== undefined; stream = stream.nextInTable) yield stream;
  }

  /** Returns all streams with a higher id, in the order of their ids. The caller may add and delete streams meanwhile. */
  all(aboveId = 0): Stream[] {
    const streams: Stream[] = [];
    for (let stream of this.newest) {
      for (; stream !== undefined; stream = stream.nextInTable) if (stream.id > aboveId) streams.push(stream);
    }
    return streams.sort((one, other) => one.id - other.id);
  }

  private grow(): void {
    const streams = this.all();
    this.newest = new Array(2 * this.newest.length).fill(undefined);
    this.mask = this.newest.length - 1;
    this.size = 0;
    for (const stream of streams) this.add(stream);
  }
}
