/**
 * Bounds the requests that a client of HTTP/1 sends ahead of their answers (pipelining, RFC 9112 §9.3.2). Node parses each
 * read whole, and 64 KB hold 1,700 requests: here the parser gets small pieces, and no more of them while too many requests
 * of the connection wait for their answers. Connections with requests ahead take turns, so others are served between.
 *
 *     read ──▶ a piece ──▶ parser ──▶ too many wait? ──▶ later, when answers are out; or never: the connection ends
 *                 ▲                   others wait, too? ──▶ in a later turn of the event loop
 *                 └────────────────── else the next piece
 *
 * All connections together get no more of a turn than leaves time for everybody else (`read-turns.ts`): one whose reads take
 * long waits behind those whose reads don't.
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Server as TlsServer } from 'node:https';
import type { Socket } from 'node:net';
import { LIGHT_MS, type Reader, readTurns } from './read-turns.ts';

/** Holds a usual head; of the shortest requests no more than twenty. */
const PIECE_BYTES = 512;
/** Of a body without a length, whose end is not known. */
const LARGEST_PIECE_BYTES = 4_096;
/** The longest that one read may keep the event loop, once it is cut into pieces. */
const TURN_MS = 2;

/** Of all connections: heads that are not whole yet, and those of requests behind others. Above it, who has more than a little ends. */
const MAX_WAITING_HEADS_BYTES = 8_388_608;
const LITTLE_BYTES = 2_048;
let waitingHeadsBytes = 0;
/** Of all connections: what has been read and waits for a turn. Above it, who has more than a little ends. */
const MAX_WAITING_READ_BYTES = 67_108_864;
let waitingReadBytes = 0;

export interface AheadBound {
  /** Requests of one connection that wait for their answers; those of one piece come on top. */
  readonly maxRequests: number;
  /**
   * What happens to more. `wait`: for answers that are quick; nobody notices that a client leaves meanwhile.
   * `end`: the connection ends.
   */
  readonly above: 'wait' | 'end';
}

/** The connections of one HTTP server. */
export class SentAhead {
  private readonly bound: AheadBound;
  private readonly connections = new WeakMap<Socket, Connection>();

  constructor(bound: AheadBound) {
    this.bound = bound;
  }

  /** Bounds all connections of a server that answers `request` alone. */
  static on(server: Server | TlsServer, event: 'connection' | 'secureConnection', bound: AheadBound): void {
    const sentAhead = new SentAhead(bound);
    server.on(event, (socket: Socket) => sentAhead.accept(socket));
    server.prependListener('request', (request, response) => sentAhead.began(request, response));
  }

  /** Comes between a socket and the parser that Node has just given it. */
  accept(socket: Socket): void {
    const parse = socket.listeners('data').at(-1) as ((bytes: Buffer) => void) | undefined;
    if (parse !== undefined) this.connections.set(socket, new Connection(socket, parse, this.bound));
  }

  /** A request has begun; before it is answered. */
  began(request: IncomingMessage, response: ServerResponse): void {
    this.connections.get(request.socket)?.began(request, response);
  }

  /** The connection is none of HTTP from now on. Returns what came after its last request. */
  leave(socket: Socket, head: Buffer): Buffer {
    return this.connections.get(socket)?.leave(head) ?? head;
  }
}

class Connection implements Reader {
  private readonly socket: Socket;
  private readonly parse: (bytes: Buffer) => void;
  private readonly bound: AheadBound;
  private readonly unanswered = new Set<ServerResponse>();
  /** The request whose body is still to come. */
  private incomplete: IncomingMessage | undefined = undefined;
  /** The next so many bytes, at least, belong to the body of the latest request. */
  private bodyBytes = 0;
  private pieceBytes = PIECE_BYTES;
  /** What the parser has now, and what follows it in the same read. */
  private piece: Buffer = EMPTY;
  private rest: Buffer = EMPTY;
  private hasBegun = false;
  /** Of a head that is not whole yet; of requests that wait behind others. */
  private headBytes = 0;
  private aheadBytes = 0;
  private waitsForTurn = false;
  /** Of what has gone back to the socket, until it comes again. */
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
    this.hasBegun = true;
    this.incomplete = request;
    // The whole piece may be of its body, but for the head.
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

  /** One whose only request has not come whole needs what follows. */
  private get isFull(): boolean {
    const { size } = this.unanswered;
    if (this.bound.above === 'end') return false;
    return size >= this.bound.maxRequests && (size > 1 || this.incomplete === undefined);
  }

  private readonly read = (bytes: Buffer): void => {
    this.rest = bytes;
    if (this.heldBytes > 0) this.countHeld(0);
    // Node reads on for the body of one of the requests.
    if (this.waitsForTurn || this.isFull) {
      this.hold();
      return;
    }
    // What is of a body alone costs little.
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
      this.hasBegun = false;
      const isInHead = this.bodyBytes <= 0 && this.incomplete === undefined;
      this.parse(this.piece);
      if (isInHead && (!this.hasBegun || this.headBytes > 0 || this.unanswered.size > 1)) this.countHead();
      if (this.incomplete?.complete) this.incomplete = undefined;
      if (this.hasBegun) this.pieceBytes = PIECE_BYTES;
      else if (this.bodyBytes > 0) this.bodyBytes -= this.piece.length;
      else if (this.incomplete !== undefined)
        this.pieceBytes = Math.min(2 * this.pieceBytes, LARGEST_PIECE_BYTES);
      this.piece = EMPTY;
      const { rest, socket } = this;
      if (this.bound.above === 'end' && this.unanswered.size > this.bound.maxRequests) socket.destroy();
      if (socket.destroyed) this.rest = EMPTY;
      if (this.rest.length === 0) return;
      if (socket.isPaused()) {
        // By Node, for an answer or a body that is not read; it goes on by itself.
        this.rest = EMPTY;
        socket.unshift(rest);
        return;
      }
      const isAhead = this.hasBegun && this.unanswered.size > 1;
      if (this.isFull || isAhead || performance.now() - sinceMs > TURN_MS) {
        this.hold();
        if (!this.isFull) this.waitForTurn();
        return;
      }
    }
  }

  /** The piece is of a head, or of several. */
  private countHead(): void {
    if (this.socket.destroyed) return;
    const { length } = this.piece;
    if (!this.hasBegun) {
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
/** Behind the last chunk of a body, and behind each head. */
const EMPTY_LINE = Buffer.from('\n\r\n');

/** A large piece ends where the body may end: hundreds of small requests may follow in it. */
function pieceLength(rest: Buffer, bytes: number): number {
  if (bytes === PIECE_BYTES) return bytes;
  const at = rest.subarray(0, bytes).indexOf(EMPTY_LINE);
  return at < 0 ? bytes : Math.max(PIECE_BYTES, at + EMPTY_LINE.length);
}

/**
 * When a connection ends, Node closes only the response whose turn it is; those behind it would never hear of it, and count
 * as running for ever.
 */
function closeUnsent(responses: ReadonlySet<ServerResponse>): void {
  for (const response of [...responses]) {
    if (response.socket !== null) continue;
    response.destroy();
    response.emit('close');
  }
}
