/**
 * Bounds the requests that an HTTP/1 client sends ahead of their answers (pipelining, RFC 9112 §9.3.2). Node parses each
 * read whole, and 64 KB hold 1,700 requests. Here the parser gets small pieces, and no more of them while too many requests
 * of the connection wait for their answers. Connections with pipelined requests take turns, so that others are served.
 *
 *     read ──▶ a piece ──▶ parser ──▶ too many wait? ──▶ after some answers; or the connection closes (`above`)
 *                 ▲                   others wait, too? ──▶ in a later turn of the event loop
 *                 └────────────────── else the next piece
 *
 * All connections together get a bounded time of each turn of the event loop (`read-turns.ts`). A connection whose reads
 * take long waits behind those whose reads don't.
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Server as TlsServer } from 'node:https';
import type { Socket } from 'node:net';
import { LIGHT_MS, type Reader, readTurns } from './read-turns.ts';

/** A piece holds a usual head, and at most twenty of the shortest requests. */
const PIECE_BYTES = 512;
/** The largest piece of a body without a length, whose end is not known. */
const LARGEST_PIECE_BYTES = 4_096;
/** How long one read, cut into pieces, may occupy the event loop. */
const TURN_MS = 2;

/**
 * The most bytes, over all connections, of incomplete heads and of the heads of pipelined requests. Above it, connections
 * with more than `LITTLE_BYTES` are closed.
 */
const MAX_WAITING_HEADS_BYTES = 8_388_608;
const LITTLE_BYTES = 2_048;
let waitingHeadsBytes = 0;
/** The same bound for bytes that were read and wait for a turn. */
const MAX_WAITING_READ_BYTES = 67_108_864;
let waitingReadBytes = 0;

export interface AheadBound {
  /** The most requests of one connection that wait for answers; one piece may exceed it. */
  readonly maxRequests: number;
  /**
   * What happens above it. `wait`: the connection is not read, so a client that leaves is not noticed; for quick answers.
   * `end`: the connection is closed.
   */
  readonly above: 'wait' | 'end';
}

/** Bounds the connections of one HTTP server. */
export class SentAhead {
  private readonly bound: AheadBound;
  private readonly connections = new WeakMap<Socket, Connection>();

  constructor(bound: AheadBound) {
    this.bound = bound;
  }

  /** Bounds all connections of a server that answers `request` alone. */
  static on(server: Server | TlsServer, event: 'connection' | 'secureConnection', bound: AheadBound): void {
    const sentAhead = new SentAhead(bound);
    server.on(event, (socket: Socket) => sentAhead.intercept(socket));
    server.prependListener('request', (request, response) => sentAhead.began(request, response));
  }

  /** Intercepts the bytes between a socket and the parser that Node has just attached to it. */
  intercept(socket: Socket): void {
    const parse = socket.listeners('data').at(-1) as ((bytes: Buffer) => void) | undefined;
    if (parse !== undefined) this.connections.set(socket, new Connection(socket, parse, this.bound));
  }

  /** Call it when a request begins, before it is answered. */
  began(request: IncomingMessage, response: ServerResponse): void {
    this.connections.get(request.socket)?.began(request, response);
  }

  /** The connection no longer speaks HTTP (an upgrade). Returns the bytes that followed its last request. */
  leave(socket: Socket, head: Buffer): Buffer {
    return this.connections.get(socket)?.leave(head) ?? head;
  }
}

class Connection implements Reader {
  private readonly socket: Socket;
  private readonly parse: (bytes: Buffer) => void;
  private readonly bound: AheadBound;
  private readonly unanswered = new Set<ServerResponse>();
  /** The request whose body is incomplete. */
  private incomplete: IncomingMessage | undefined = undefined;
  /** At least this many of the next bytes belong to the body of the latest request. */
  private bodyBytes = 0;
  private pieceBytes = PIECE_BYTES;
  /** The piece in the parser, and the rest of the same read. */
  private piece: Buffer = EMPTY;
  private rest: Buffer = EMPTY;
  /** The piece in the parser has begun a request. */
  private beganRequest = false;
  /** Bytes of an incomplete head, and of requests that wait behind others. */
  private headBytes = 0;
  private aheadBytes = 0;
  private waitsForTurn = false;
  /** Bytes that were put back into the socket, until they are read again. */
  private heldBytes = 0;
  private isLight = true;
  private isHeld = false;

  constructor(socket: Socket, parse: (bytes: Buffer) => void, bound: AheadBound) {
    this.socket = socket;
    this.parse = parse;
    this.bound = bound;
    socket.on('data', this.read);
    socket.removeListener('data', parse);
    socket.once('close', () => {
      waitingHeadsBytes -= this.headBytes + this.aheadBytes;
      this.headBytes = 0;
      this.aheadBytes = 0;
      this.countHeld(0);
      closeUnsent(this.unanswered);
    });
  }

  began(request: IncomingMessage, response: ServerResponse): void {
    this.beganRequest = true;
    this.incomplete = request;
    // Subtract the piece: all of it but the head may belong to the body.
    this.bodyBytes = Number(request.headers['content-length'] ?? 0) - this.piece.length;
    this.unanswered.add(response);
    response.once('close', () => {
      this.unanswered.delete(response);
      if (this.unanswered.size === 0 && this.aheadBytes > 0) {
        waitingHeadsBytes -= this.aheadBytes;
        this.aheadBytes = 0;
      }
      if (this.isHeld && !this.isFull) this.waitForTurn();
    });
  }

  leave(head: Buffer): Buffer {
    this.socket.removeListener('data', this.read);
    const { rest } = this;
    this.rest = EMPTY;
    return rest.length === 0 ? head : Buffer.concat([head, rest]);
  }

  goOn(): void {
    this.waitsForTurn = false;
    if (this.isFull || this.socket.destroyed) return;
    this.isHeld = false;
    this.socket.resume();
  }

  /** Whether too many requests wait. A connection with a single, incomplete request must read on. */
  private get isFull(): boolean {
    const { size } = this.unanswered;
    if (this.bound.above === 'end') return false;
    return size >= this.bound.maxRequests && (size > 1 || this.incomplete === undefined);
  }

  private readonly read = (bytes: Buffer): void => {
    this.rest = bytes;
    if (this.heldBytes > 0) this.countHeld(0);
    // Node has resumed reading for the body of a request.
    if (this.waitsForTurn || this.isFull) {
      this.hold();
      return;
    }
    // Bytes of a body cost little.
    const isOfBody = this.bodyBytes >= bytes.length;
    if (!isOfBody && !readTurns.hasTime) {
      this.hold();
      this.waitForTurn();
      return;
    }
    const sinceMs = performance.now();
    this.parseRead(sinceMs);
    const ms = performance.now() - sinceMs;
    this.isLight = ms < LIGHT_MS;
    if (!isOfBody) readTurns.spend(ms, !this.isLight);
  };

  private parseRead(sinceMs: number): void {
    for (;;) {
      const length = this.bodyBytes > 0 ? this.bodyBytes : pieceLength(this.rest, this.pieceBytes);
      this.piece = this.rest.length <= length ? this.rest : this.rest.subarray(0, length);
      this.rest = this.rest.length <= length ? EMPTY : this.rest.subarray(length);
      this.beganRequest = false;
      const isInHead = this.bodyBytes <= 0 && this.incomplete === undefined;
      this.parse(this.piece);
      if (isInHead && (!this.beganRequest || this.headBytes > 0 || this.unanswered.size > 1))
        this.countHead();
      if (this.incomplete?.complete) this.incomplete = undefined;
      if (this.beganRequest) this.pieceBytes = PIECE_BYTES;
      else if (this.bodyBytes > 0) this.bodyBytes -= this.piece.length;
      else if (this.incomplete !== undefined)
        this.pieceBytes = Math.min(2 * this.pieceBytes, LARGEST_PIECE_BYTES);
      this.piece = EMPTY;
      const { rest, socket } = this;
      if (this.bound.above === 'end' && this.unanswered.size > this.bound.maxRequests) socket.destroy();
      if (socket.destroyed) this.rest = EMPTY;
      if (this.rest.length === 0) return;
      if (socket.isPaused()) {
        // Node has paused it for an answer or a body that is not consumed, and will resume it.
        this.rest = EMPTY;
        socket.unshift(rest);
        return;
      }
      const isAhead = this.beganRequest && this.unanswered.size > 1;
      if (this.isFull || isAhead || performance.now() - sinceMs > TURN_MS) {
        this.hold();
        if (!this.isFull) this.waitForTurn();
        return;
      }
    }
  }

  /** Counts a piece that holds a part of a head, or several heads. */
  private countHead(): void {
    if (this.socket.destroyed) return;
    const { length } = this.piece;
    if (!this.beganRequest) {
      this.headBytes += length;
      waitingHeadsBytes += length;
    } else {
      if (this.unanswered.size > 1) {
        this.aheadBytes += this.headBytes + length;
        waitingHeadsBytes += length;
      } else waitingHeadsBytes -= this.headBytes;
      this.headBytes = 0;
    }
    if (waitingHeadsBytes > MAX_WAITING_HEADS_BYTES && this.headBytes + this.aheadBytes > LITTLE_BYTES)
      this.socket.destroy();
  }

  private hold(): void {
    const { rest, socket } = this;
    this.rest = EMPTY;
    this.isHeld = true;
    this.countHeld(rest.length);
    if (waitingReadBytes > MAX_WAITING_READ_BYTES && rest.length > LITTLE_BYTES) {
      socket.destroy();
      return;
    }
    socket.pause();
    socket.unshift(rest);
  }

  private countHeld(bytes: number): void {
    waitingReadBytes += bytes - this.heldBytes;
    this.heldBytes = bytes;
  }

  private waitForTurn(): void {
    if (this.waitsForTurn) return;
    this.waitsForTurn = true;
    readTurns.wait(this, this.isLight);
  }
}

const EMPTY: Buffer = Buffer.alloc(0);
/** The bytes that end the last chunk of a body, and each head. */
const EMPTY_LINE = Buffer.from('\n\r\n');

/** Ends a large piece where the body may end: hundreds of small requests may follow it. */
function pieceLength(rest: Buffer, bytes: number): number {
  if (bytes === PIECE_BYTES) return bytes;
  const at = rest.subarray(0, bytes).indexOf(EMPTY_LINE);
  return at < 0 ? bytes : Math.max(PIECE_BYTES, at + EMPTY_LINE.length);
}

/**
 * Closes the responses that Node leaves open. When a connection ends, Node closes only the response whose turn it is; those
 * behind it would get no event and count as running for ever.
 */
function closeUnsent(responses: ReadonlySet<ServerResponse>): void {
  for (const response of [...responses]) {
    if (response.socket !== null) continue;
    response.destroy();
    response.emit('close');
  }
}
