import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

/** Requests of one connection that may wait for their answers. No client sends that many ahead. */
const maxSentAhead = 16;
/** Node parses each read whole, and 64 KB hold 1,700 requests: it gets small pieces instead. */
const pieceBytes = 512;
/** Of a body without a length. */
const largestPieceBytes = 4096;
/** The longest that one read may keep the event loop, once it is cut into pieces. */
const turnMs = 2;
/** So many connections go on in one turn of the event loop. */
const connectionsPerTurn = 8;

/**
 * Bounds what clients of a server send ahead of their answers (pipelining, RFC 9112, 9.3.2). A connection with more
 * ahead than that ends; with fewer, it waits for its turn while others are served. The responses that were waiting on a
 * connection when it ends are closed, which Node does only for the first.
 */
export function boundSentAhead(server: Server): void {
  const connections = new WeakMap<Socket, Connection>();
  const turns = new Turns();
  server.on('connection', (socket: Socket) => {
    // Node's own listener is older: it has just given the socket to a parser.
    const parse = socket.listeners('data').at(-1) as ((bytes: Buffer) => void) | undefined;
    if (parse !== undefined) connections.set(socket, new Connection(socket, parse, turns));
  });
  server.prependListener('request', (request, response) =>
    connections.get(request.socket)?.began(request, response),
  );
}

class Connection {
  readonly #socket: Socket;
  readonly #parse: (bytes: Buffer) => void;
  readonly #turns: Turns;
  readonly #unanswered = new Set<ServerResponse>();
  /** The request whose body is still to come. */
  #incomplete: IncomingMessage | undefined;
  /** The next so many bytes, at least, are of its body. */
  #bodyBytes = 0;
  #pieceBytes = pieceBytes;
  /** Of the piece that is parsed. */
  #length = 0;
  #hasBegun = false;
  #waits = false;

  constructor(socket: Socket, parse: (bytes: Buffer) => void, turns: Turns) {
    this.#socket = socket;
    this.#parse = parse;
    this.#turns = turns;
    socket.on('data', (bytes: Buffer) => this.#read(bytes));
    socket.removeListener('data', parse);
    socket.once('close', () => closeUnsent(this.#unanswered));
  }

  began(request: IncomingMessage, response: ServerResponse): void {
    this.#hasBegun = true;
    this.#incomplete = request;
    // All of the piece may be of its body, but for the head.
    this.#bodyBytes = Number(request.headers['content-length'] ?? 0) - this.#length;
    this.#unanswered.add(response);
    response.once('close', () => this.#unanswered.delete(response));
  }

  goOn(): void {
    this.#waits = false;
    this.#socket.resume();
  }

  #read(bytes: Buffer): void {
    // Node reads on for the body of a request.
    if (this.#waits) {
      this.#wait(bytes);
      return;
    }
    const sinceMs = performance.now();
    let rest = bytes;
    while (rest.length > 0 && !this.#socket.destroyed) {
      if (this.#socket.isPaused()) {
        // By Node, for an answer or a body that is not read: it resumes the socket by itself.
        this.#socket.unshift(rest);
        return;
      }
      const length = this.#bodyBytes > 0 ? this.#bodyBytes : pieceLength(rest, this.#pieceBytes);
      const piece = rest.length <= length ? rest : rest.subarray(0, length);
      rest = rest.subarray(piece.length);
      this.#parsePiece(piece);
      if (this.#unanswered.size > maxSentAhead) this.#socket.destroy();
      const isAhead = this.#hasBegun && this.#unanswered.size > 1;
      if (isAhead || performance.now() - sinceMs > turnMs) {
        this.#wait(rest);
        return;
      }
    }
  }

  #parsePiece(piece: Buffer): void {
    this.#length = piece.length;
    this.#hasBegun = false;
    this.#parse(piece);
    if (this.#incomplete?.complete) this.#incomplete = undefined;
    if (this.#hasBegun) this.#pieceBytes = pieceBytes;
    else if (this.#bodyBytes > 0) this.#bodyBytes -= piece.length;
    else if (this.#incomplete !== undefined)
      this.#pieceBytes = Math.min(2 * this.#pieceBytes, largestPieceBytes);
  }

  #wait(rest: Buffer): void {
    if (rest.length === 0 || this.#socket.destroyed) return;
    const isPaused = this.#socket.isPaused();
    // First: a socket that flows would come back at once with what it gets back.
    this.#socket.pause();
    this.#socket.unshift(rest);
    // By Node, which resumes it itself.
    if (isPaused || this.#waits) return;
    this.#waits = true;
    this.#turns.add(this);
  }
}

/** Behind the last chunk of a body, and behind each head. */
const emptyLine = Buffer.from('\n\r\n');

/** A large piece ends where the body may end: hundreds of small requests may follow in it. */
function pieceLength(rest: Buffer, bytes: number): number {
  if (bytes === pieceBytes) return bytes;
  const at = rest.subarray(0, bytes).indexOf(emptyLine);
  return at < 0 ? bytes : Math.max(pieceBytes, at + emptyLine.length);
}

/** The longest waiting first. */
class Turns {
  #waiting: Connection[] = [];

  add(connection: Connection): void {
    if (this.#waiting.push(connection) === 1) setImmediate(() => this.#give());
  }

  #give(): void {
    const now = this.#waiting.slice(0, connectionsPerTurn);
    this.#waiting = this.#waiting.slice(connectionsPerTurn);
    if (this.#waiting.length > 0) setImmediate(() => this.#give());
    for (const connection of now) connection.goOn();
  }
}

function closeUnsent(responses: ReadonlySet<ServerResponse>): void {
  for (const response of [...responses]) {
    if (response.socket !== null) continue;
    response.destroy();
    response.emit('close');
  }
}
