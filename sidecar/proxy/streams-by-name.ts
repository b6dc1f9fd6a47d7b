/** Finds a stream that a caller names when it comes back. */
import type { LinkedList } from '../collections/linked-list.ts';
import type { Carrier } from './carrier.ts';
import type { ResumableStream } from './resumable-stream.ts';
import type { StreamName } from './stream-names.ts';

/**
 * A stream that was never cut is on the connection that names it: no call pays for a table of those. Streams that were cut, few of
 * all, are in a table until they are over, whichever connection carries them since.
 */
export class StreamsByName {
  private readonly wereCut = new Map<string, ResumableStream>();
  private readonly carriers: LinkedList<Carrier<ResumableStream>>;

  constructor(carriers: LinkedList<Carrier<ResumableStream>>) {
    this.carriers = carriers;
  }

  /** The stream was cut. */
  add(stream: ResumableStream): void {
    for (const name of stream.allNames) this.wereCut.set(keyOf(name), stream);
  }

  /** The stream is over. */
  remove(stream: ResumableStream): void {
    if (this.wereCut.size === 0) return;
    for (const name of stream.allNames) this.wereCut.delete(keyOf(name));
  }

  /** The stream whose run has this name. */
  named(name: StreamName): ResumableStream | undefined {
    const found = this.wereCut.get(keyOf(name));
    if (found !== undefined) return found.isNamed(name) ? found : undefined;
    return this.carried(
      ({ names }) => names.ours === name.connection,
      (stream) => stream.isNamed(name),
    );
  }

  /** The stream of the task that came on the stream of this name. */
  cameOn(name: StreamName): ResumableStream | undefined {
    const found = this.wereCut.get(keyOf(name));
    if (found !== undefined) return found.cameOn(name) ? found : undefined;
    return this.carried(
      ({ names }) => names.callers === name.connection,
      (stream) => stream.cameOn(name),
    );
  }

  /** Callers mostly come back in the order in which they came, so that the first one is it. */
  private carried(
    isOf: (carrier: Carrier<ResumableStream>) => boolean,
    is: (stream: ResumableStream) => boolean,
  ): ResumableStream | undefined {
    for (let carrier = this.carriers.oldest; carrier !== undefined; carrier = carrier.newer) {
      if (!isOf(carrier)) continue;
      for (const stream of carrier.carried()) if (is(stream)) return stream;
    }
    return undefined;
  }
}

const keyOf = ({ connection, id }: StreamName): string => `${connection}-${id}`;
