/** Divides each turn of the event loop among connections. */
import { queuedMemory } from './queued-memory.ts';

/** The bytes that may wait in line over all connections: 64 reads, if bytes for readers leave that memory free. */
const MAX_HELD_BYTES = 8_388_608;
const CROWD = 4;

/** The parts of a connection that a turn needs. */
export interface WorkingConnection {
  readonly closed: boolean;
  readonly socket: { pause(): unknown };
  readonly reader: { readonly heldBytes: number };
  /** The connection waits for a turn, with this many bytes; only this file writes both. */
  inLine: boolean;
  inLineBytes: number;
  work(chunk: undefined): void;
}

/**
 * The connections whose peers have sent more work than one turn of the event loop should do (`frame-reader.ts`). We do not
 * read from them meanwhile. One of them has a turn in each turn of the loop, so that floods of small frames take a few
 * milliseconds of it, however many connections send one, and all other connections are served in between.
 *
 * The frames beyond a turn wait with their connection. While no memory is left for them, the connection works on a whole read,
 * and the next read waits for the turn.
 *
 *     reading ──more than a turn's work arrives──▶ in line ──its turn: all is done──▶ reading
 *                                                   ▲   │
 *                                                   └───┘ its turn: some is left
 */
class WorkTurns {
  private readonly line: WorkingConnection[] = [];
  private scheduled = false;

  /** Whether no more bytes may wait in line. */
  get full(): boolean {
    return queuedMemory.besides > MAX_HELD_BYTES || queuedMemory.crammed;
  }

  /** Whether several connections wait. */
  get crowded(): boolean {
    return this.line.length >= CROWD;
  }

  /** Stops reading from the connection until its work is done. Does nothing if it is in line already. */
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
    // Connections that have closed meanwhile take no turn.
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
