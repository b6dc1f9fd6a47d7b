/** The number of ids that we remember of streams that ended in order. */
const ENDED = 256;
/** The same for streams that we reset: as many as a connection may have open, because we may reset all at once. */
const RESET = 1_024;

/**
 * Remembers the latest closed streams, and whether we reset them. We ignore late frames on a stream that we reset (RFC 9113
 * §5.4.2); on a stream that ended in order they are an error (§5.1); on a skipped id they are a different error. The ids of
 * streams that we reset have a list of their own. Otherwise calls that end in order would displace them while the peer still
 * sends.
 */
export class ClosedStreams {
  // Made for the first entry, so that an idle connection has none.
  private ended: Int32Array | undefined = undefined;
  private nextEnded = 0;
  private reset: Int32Array | undefined = undefined;
  private nextReset = 0;

  /** A stream that both sides have reset counts as ended after the peer's reset. */
  add(id: number, resetByUs: boolean): void {
    if (resetByUs) {
      this.reset ??= new Int32Array(RESET);
      this.reset[this.nextReset] = id;
      this.nextReset = (this.nextReset + 1) % RESET;
    } else {
      this.ended ??= new Int32Array(ENDED);
      this.ended[this.nextEnded] = id;
      this.nextEnded = (this.nextEnded + 1) % ENDED;
    }
  }

  find(id: number): 'reset-by-us' | 'ended' | 'forgotten' {
    if (this.ended?.includes(id)) return 'ended';
    if (this.reset?.includes(id)) return 'reset-by-us';
    return 'forgotten';
  }
}
