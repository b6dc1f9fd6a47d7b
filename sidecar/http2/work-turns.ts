import { queuedMemory } from './queued-memory.ts';

/** What may wait in line over all connections, in bytes: 64 reads, and only in room that no bytes for readers need. */
const MAX_HELD_BYTES = 8_388_608;
const CROWD = 4;

/** What a turn needs of its connection. */
export interface WorkingConnection {
  readonly closed: boolean;
  readonly socket: { pause(): unknown };
  readonly reader: { readonly heldBytes: number };
  /** It waits for a turn, with so many bytes; only this file writes these. */
  inLine: boolean;
  inLineBytes: number;
  work(chunk: undefined): void;
}

/**
 * Connections whose peers have sent more work than one turn of the event loop should do (`frame-reader.ts`). They are
 * not read meanwhile. One of them has a turn in each turn of the loop, so that a flood of small frames takes a
 * few milliseconds of it, however many connections bring one, and all others are served in between.
 *
 * What a connection has sent beyond its turn waits with it. While there is no more room for that, a read is worked on as a
 * whole, and the next one waits for the turn.
 *
 *     reading ──more than a turn's work came──▶ in line ──its turn: all is done──▶ reading
 *                                                ▲   │
 *                                                └───┘ its turn: some is left
 */
class WorkTurns {
  private readonly line: WorkingConnection[] = [];
  private scheduled = false;

  /** No more bytes may wait in line. */
  get full(): boolean {
    return queuedMemory.besides > MAX_HELD_BYTES || queuedMemory.crammed;
  }

  /** Several wait. */
  get crowded(): boolean {
    return this.line.length >= CROWD;
  }

  /** Stops reading the connection until its work is done. Does nothing when it is in line already. */
  add(connection: WorkingConnection): void {
    if (connection.inLine) return;
    connection.inLine = true;
    connection.socket.pause();
    connection.inLineBytes = connection.reader.heldBytes;
    queuedMemory.besides += connection.inLineBytes;
    this.line.push(connection);
    this.schedule();
  }

  private schedule(): void {
    if (this.scheduled || this.line.length === 0) return;
    this.scheduled = true;
    setImmediate(this.run);
  }

  private readonly run = (): void => {
    this.scheduled = false;
    // Those that were closed meanwhile take no turn.
    for (let connection = this.line.shift(); connection !== undefined; connection = this.line.shift()) {
      queuedMemory.besides -= connection.inLineBytes;
      connection.inLineBytes = 0;
      connection.inLine = false;
      if (connection.closed) continue;
      connection.work(undefined);
      break;
    }
    this.schedule();
  };
}

export const workTurns = new WorkTurns();
