/**
 * Joins small TLS records of a peer, downstream or upstream, into larger buffers. Node passes on each record as a buffer
 * of its own, for as long as bytes of a read remain. One read can hold 2,800 records of one byte, whose buffers take 200
 * times their size, and twice as much again while the reader is not ready. A few records in a row, such as the events of a
 * stream, pass at once; connections with more take turns. After RECORDS_A_TURN records in one turn of the event loop, no
 * connection is read until the next turn: a thousand connections would have hundreds each.
 */
import type { Socket } from 'node:net';
import { type Reader, readTurns } from '../node/read-turns.ts';

/** Larger records pass unchanged. */
const SMALL_BYTES = 1_024;
const JOINED_BYTES = 4_096;
/** When this many records in a row arrive within `ROW_MS`, they and those behind them are joined and wait for a turn. */
const IN_A_ROW = 64;
const ROW_MS = 2;
/** Records joined in one turn of the event loop. Each takes a microsecond, whatever is done with it. */
const RECORDS_A_TURN = 8_192;

/** The part of Node's socket handle that starts and stops reading. */
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
  private readonly socket: Socket;
  private readonly pushToSocket: Socket['push'];
  private joined: Buffer | undefined = undefined;
  private length = 0;
  private inARow = 0;
  private rowSinceMs = 0;
  /** True until the connection has its turn. */
  private joins = false;
  /** True until the next turn of the event loop. */
  private isStopped = false;

  constructor(socket: Socket) {
    this.socket = socket;
    this.pushToSocket = socket.push;
  }

  readonly push = (chunk: Buffer | null): boolean => {
    const socket = this.socket;
    if (chunk === null || chunk.length > SMALL_BYTES) {
      this.inARow = 0;
      this.handOn();
      return this.pushToSocket.call(socket, chunk);
    }
    const isWaiting = socket.readableFlowing !== true || socket.readableLength > 0;
    if (!this.joins && !isWaiting && !this.isRow()) return this.pushToSocket.call(socket, chunk);
    if (!this.joins) {
      this.joins = true;
      readTurns.wait(this, isWaiting);
    }
    if (this.length + chunk.length > JOINED_BYTES) this.handOn();
    this.joined ??= Buffer.allocUnsafeSlow(JOINED_BYTES);
    countRecord();
    chunk.copy(this.joined, this.length);
    this.length += chunk.length;
    // `false` makes Node stop reading until the joined bytes have been passed on and consumed.
    return false;
  };

  goOn(): void {
    this.joins = false;
    this.inARow = 0;
    this.handOn();
  }

  stop(): void {
    const handle = this.handle;
    if (handle?.reading !== true || handle.readStop === undefined) return;
    this.isStopped = true;
    handle.reading = false;
    handle.readStop();
  }

  restart(): void {
    if (!this.isStopped) return;
    this.isStopped = false;
    if (!this.socket.destroyed) this.socket._read(0);
  }

  private get handle(): Handle | null | undefined {
    return (this.socket as unknown as { _handle?: Handle | null })._handle;
  }

  private isRow(): boolean {
    if (++this.inARow < IN_A_ROW) return false;
    const nowMs = performance.now();
    const isQuick = nowMs - this.rowSinceMs < ROW_MS;
    this.inARow = 0;
    this.rowSinceMs = nowMs;
    return isQuick;
  }

  private handOn(): void {
    const length = this.length;
    if (length === 0) return;
    const joined = this.joined!;
    const bytes =
      2 * length < JOINED_BYTES ? Buffer.from(joined.subarray(0, length)) : joined.subarray(0, length);
    this.joined = undefined;
    this.length = 0;
    if (!this.socket.destroyed) this.pushToSocket.call(this.socket, bytes);
  }
}
