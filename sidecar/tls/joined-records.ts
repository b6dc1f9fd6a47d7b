/**
 * Joins what a peer, on either side, sends over TLS in small records. Node hands out each record as a buffer of its own, without an end while
 * what was read of the connection lasts: 2,800 records of one byte of one read, 200 times their size, and the double of
 * that again while the reader is not ready. A few in a row, as events of a stream come, go on at once; connections with more of
 * them take turns. Once a turn of the event loop has given so many records, no other connection is read in it: a thousand of
 * them would have hundreds each.
 */
import type { Socket } from 'node:net';
import { type Reader, readTurns } from '../node/read-turns.ts';

/** Larger ones go on by themselves. */
const SMALL_BYTES = 1_024;
const JOINED_BYTES = 4_096;
/** So many in a row that come within so long are joined, with those behind them, and wait for a turn. */
const IN_A_ROW = 64;
const ROW_MS = 2;
/** Joined in one turn; each takes a microsecond, whatever is done with it. */
const RECORDS_A_TURN = 8_192;

/** What Node reads a socket with. */
interface Handle {
  reading?: boolean;
  readStop?: () => void;
}

export function joinRecords(socket: Socket): void {
  const joiner = new Joiner(socket);
  socket.push = joiner.push;
  joiners.add(joiner);
  socket.once('close', () => joiners.delete(joiner));
}

const joiners = new Set<Joiner>();
let recordsInTurn = 0;

function countRecord(): void {
  if (++recordsInTurn === 1) setImmediate(endTurn);
  if (recordsInTurn === RECORDS_A_TURN) for (const joiner of joiners) joiner.stop();
}

function endTurn(): void {
  const hasStopped = recordsInTurn >= RECORDS_A_TURN;
  recordsInTurn = 0;
  if (hasStopped) for (const joiner of joiners) joiner.restart();
}

class Joiner implements Reader {
  readonly #socket: Socket;
  readonly #push: Socket['push'];
  #joined: Buffer | undefined = undefined;
  #length = 0;
  #inARow = 0;
  #rowSinceMs = 0;
  /** Until its turn. */
  #joins = false;
  /** Until the next turn. */
  #isStopped = false;

  constructor(socket: Socket) {
    this.#socket = socket;
    this.#push = socket.push;
  }

  readonly push = (chunk: Buffer | null): boolean => {
    const socket = this.#socket;
    if (chunk === null || chunk.length > SMALL_BYTES) {
      this.#inARow = 0;
      this.#handOn();
      return this.#push.call(socket, chunk);
    }
    const isWaiting = socket.readableFlowing !== true || socket.readableLength > 0;
    if (!this.#joins && !isWaiting && !this.#isRow()) return this.#push.call(socket, chunk);
    if (!this.#joins) {
      this.#joins = true;
      readTurns.wait(this, isWaiting);
    }
    if (this.#length + chunk.length > JOINED_BYTES) this.#handOn();
    this.#joined ??= Buffer.allocUnsafeSlow(JOINED_BYTES);
    countRecord();
    chunk.copy(this.#joined, this.#length);
    this.#length += chunk.length;
    // Node stops to read until what has been joined is handed on, and taken.
    return false;
  };

  goOn(): void {
    this.#joins = false;
    this.#inARow = 0;
    this.#handOn();
  }

  stop(): void {
    const handle = this.#handle;
    if (handle?.reading !== true || handle.readStop === undefined) return;
    this.#isStopped = true;
    handle.reading = false;
    handle.readStop();
  }

  restart(): void {
    if (!this.#isStopped) return;
    this.#isStopped = false;
    if (!this.#socket.destroyed) this.#socket._read(0);
  }

  get #handle(): Handle | null | undefined {
    return (this.#socket as unknown as { _handle?: Handle | null })._handle;
  }

  #isRow(): boolean {
    if (++this.#inARow < IN_A_ROW) return false;
    const nowMs = performance.now();
    const isQuick = nowMs - this.#rowSinceMs < ROW_MS;
    this.#inARow = 0;
    this.#rowSinceMs = nowMs;
    return isQuick;
  }

  #handOn(): void {
    const length = this.#length;
    if (length === 0) return;
    const joined = this.#joined!;
    const bytes =
      2 * length < JOINED_BYTES ? Buffer.from(joined.subarray(0, length)) : joined.subarray(0, length);
    this.#joined = undefined;
    this.#length = 0;
    if (!this.#socket.destroyed) this.#push.call(this.#socket, bytes);
  }
}
