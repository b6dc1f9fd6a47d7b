/** How many streams that ended in order are remembered. */
const ENDED = 256;
/** How many that we reset are: as many as a connection may have open, for all may be reset at once. */
const RESET = 1_024;

/**
 * The last stream ids that ended, and whether we reset them: late frames on a stream that we reset are to be
 * ignored (RFC 9113 §5.4.2), on one that ended in order they are an error (§5.1), and ids that were skipped are
 * a different error. Those that we reset are kept apart, or the calls that end in the meantime would displace them
 * while their peer still sends.
 */
export class ClosedStreams {
  // Created with the first entry: idle connections have none.
  private ended: Int32Array | undefined = undefined;
  private nextEnded = 0;
  private reset: Int32Array | undefined = undefined;
  private nextReset = 0;

  /** A stream that both sides have reset counts as ended from the peer's reset on. */
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
