/** Serves the agent's requests to models that come over HTTP/2 without TLS, and bounds what a connection may hold. */
import type { Http2Server, ServerHttp2Session, ServerHttp2Stream } from 'node:http2';
import type { Socket } from 'node:net';
import type { DownstreamRequest, DownstreamResponse } from '../llm/caller/reply.ts';

type Http2 = typeof import('node:http2');
/** Node's own listener: makes a request and a response of a stream, and hands them to the server's listeners. */
type AcceptStream = (stream: ServerHttp2Stream, ...head: unknown[]) => void;
/** @returns false when the request was turned away, and nothing but its answer is left of it */
type Serve = (request: DownstreamRequest, response: DownstreamResponse) => boolean;

/** Streams of one connection at a time: the usual clients open 100 at most. Node refuses those above. */
const MAX_STREAMS = 256;
/** Fields of a request: as Node has it by itself. A field of nothing costs a byte to refer to, and far more to hold. */
const MAX_FIELDS = 128;
/** In megabytes, for a connection. */
const MAX_SESSION_MEMORY_MB = 64;
/** Streams of all connections that are open, and that the egress did not take or has not looked at yet. */
const MAX_IDLE_STREAMS = 1_024;
/** Requests begun in one turn of the event loop. */
const TURN_STREAMS = 16;
/** Heads read in one turn of the event loop until nothing more is read in it: a read of one connection may bring hundreds. */
const TURN_HEADS = 32;
/** Requests of a connection that its client may cancel at once, and each second. */
const RESET_BURST = 512;
const RESETS_PER_SECOND = 200;
/** Node's own allowance for them ends a connection without closing it, so it has to be the greater one. */
const NODE_RESET_FACTOR = 4;

/**
 * The agent's connections of HTTP/2. Node bounds each connection, and does all that a connection brings at once; this bounds
 * what all of them hold and do:
 *
 *     stream ──turn──▶ taken by the egress, which bounds what it takes (`llm.limits.max_concurrent_requests`)
 *       │        └───▶ turned away: open until its answer has been read and its body has ended
 *       └ in line: its connection is not read meanwhile; when its client resets it, it costs nothing more
 *
 * When too many are open that the egress did not take, the connection with most of them is closed.
 */
export class LlmHttp2 {
  readonly #server: Http2Server;
  readonly #connections = new Set<Connection>();
  readonly #bySession = new WeakMap<ServerHttp2Session, Connection>();
  /** Connections with streams that wait for a turn. */
  #line: Connection[] = [];
  #acceptStream: AcceptStream = () => {};
  #idleStreams = 0;
  #streamsOfTurn = 0;
  #headsOfTurn = 0;
  #isNextTurnDue = false;
  #arriving: Socket | undefined = undefined;
  readonly #serve: Serve;
  readonly #http2: Http2;

  /** @param idleMs a connection without requests is closed after so long */
  constructor(http2: Http2, idleMs: number, serve: Serve) {
    this.#http2 = http2;
    this.#serve = serve;
    const listener = (request: DownstreamRequest, response: DownstreamResponse): void =>
      this.#begin(request, response);
    this.#server = http2.createServer(
      {
        settings: { maxConcurrentStreams: MAX_STREAMS },
        maxHeaderListPairs: MAX_FIELDS,
        maxSessionMemory: MAX_SESSION_MEMORY_MB,
        streamResetBurst: RESET_BURST * NODE_RESET_FACTOR,
        streamResetRate: RESETS_PER_SECOND * NODE_RESET_FACTOR,
      },
      listener,
    );
    const server = this.#server;
    server.on('checkContinue', listener);
    server.on('connect', listener);
    server.on('sessionError', () => {});
    server.on('session', (session) => this.#open(session, idleMs));
    // Streams come here first, and to Node's listener when it is their turn.
    [this.#acceptStream] = server.listeners('stream') as [AcceptStream];
    server.removeAllListeners('stream');
    server.on('stream', (stream, ...head) => this.#arrive(stream, head));
  }

  /** Takes a connection whose first bytes are HTTP/2's. */
  accept(socket: Socket): void {
    this.#arriving = socket;
    this.#server.emit('connection', socket);
    this.#arriving = undefined;
  }

  #open(session: ServerHttp2Session, idleMs: number): void {
    const connection = new Connection(session, this.#arriving!);
    this.#connections.add(connection);
    this.#bySession.set(session, connection);
    session.once('close', () => this.#forget(connection));
    session.setTimeout(idleMs, () => {
      if (connection.streams === 0) session.close();
      // Nobody reads the answers, or ends the requests that they were given to.
      else if (connection.streams === connection.idleStreams) session.destroy();
    });
  }

  #arrive(stream: ServerHttp2Stream, head: unknown[]): void {
    // Node throws what no listener hears.
    stream.on('error', () => {});
    const connection = this.#bySession.get(stream.session as ServerHttp2Session);
    if (connection === undefined) return;
    connection.streams++;
    this.#changeIdle(connection, 1);
    stream.once('close', () => {
      connection.streams--;
      if (!this.#connections.has(connection)) return;
      if (!connection.taken.delete(stream)) this.#changeIdle(connection, -1);
      if (stream.aborted && !connection.mayReset()) this.#end(connection);
    });
    this.#expectTurn();
    if (++this.#headsOfTurn === TURN_HEADS) for (const one of this.#connections) one.stopReading();
    if (connection.waiting.length === 0 && this.#streamsOfTurn < TURN_STREAMS) {
      this.#streamsOfTurn++;
      this.#acceptStream(stream, ...head);
    } else {
      if (connection.waiting.length === 0) this.#line.push(connection);
      connection.waiting.push([stream, head]);
      connection.stopReading();
    }
    if (this.#idleStreams > MAX_IDLE_STREAMS) this.#endLargest();
  }

  #begin(request: DownstreamRequest, response: DownstreamResponse): void {
    const { stream } = request as { stream?: ServerHttp2Stream };
    const connection = this.#bySession.get(stream?.session as ServerHttp2Session);
    if (!this.#serve(request, response) || connection === undefined || stream!.destroyed) return;
    connection.taken.add(stream!);
    this.#changeIdle(connection, -1);
  }

  #expectTurn(): void {
    if (this.#isNextTurnDue) return;
    this.#isNextTurnDue = true;
    setImmediate(() => this.#turn());
  }

  /** A stream of each connection in line, as long as the turn has room. */
  #turn(): void {
    this.#isNextTurnDue = false;
    this.#streamsOfTurn = 0;
    this.#headsOfTurn = 0;
    const line = this.#line;
    let first = 0;
    for (; first < line.length && this.#streamsOfTurn < TURN_STREAMS; first++) {
      const connection = line[first]!;
      const next = connection.nextWaiting();
      if (next !== undefined) {
        this.#streamsOfTurn++;
        this.#acceptStream(next[0], ...next[1]);
      }
      if (connection.waiting.length > 0) line.push(connection);
    }
    this.#line = line.slice(first);
    if (this.#line.length > 0) this.#expectTurn();
    for (const connection of this.#connections) if (connection.waiting.length === 0) connection.readAgain();
  }

  #changeIdle(connection: Connection, by: number): void {
    connection.idleStreams += by;
    this.#idleStreams += by;
  }

  #endLargest(): void {
    let largest: Connection | undefined;
    for (const one of this.#connections)
      if (!one.session.destroyed && one.idleStreams > (largest?.idleStreams ?? 0)) largest = one;
    if (largest !== undefined) this.#end(largest);
  }

  /** Stops counting its streams at once, though Node closes them one after the other. */
  #forget(connection: Connection): void {
    if (this.#connections.delete(connection)) this.#changeIdle(connection, -connection.idleStreams);
    this.#bySession.delete(connection.session);
  }

  /** Also where the GOAWAY can't leave, because its peer does not read. */
  #end(connection: Connection): void {
    const { session, socket } = connection;
    connection.waiting.length = 0;
    if (session.destroyed) return;
    this.#forget(connection);
    // In two steps: with a code, `destroy` makes an error for each stream.
    session.goaway(this.#http2.constants.NGHTTP2_ENHANCE_YOUR_CALM);
    session.destroy();
    setImmediate(() => socket.destroy());
  }
}

/** What Node reads a socket with; a session of HTTP/2 takes it over from the socket, whose `pause` does nothing then. */
interface ReadHandle {
  readStop?: () => void;
  readStart?: () => void;
}

class Connection {
  readonly session: ServerHttp2Session;
  readonly socket: Socket;
  readonly waiting: [ServerHttp2Stream, unknown[]][] = [];
  readonly taken = new Set<ServerHttp2Stream>();
  streams = 0;
  /** Of these, those that the egress did not take. */
  idleStreams = 0;
  #resetsLeft = RESET_BURST;
  #resetAtMs = 0;
  #stopped = false;

  constructor(session: ServerHttp2Session, socket: Socket) {
    this.session = session;
    this.socket = socket;
  }

  stopReading(): void {
    if (this.#stopped || this.session.destroyed) return;
    this.#stopped = true;
    this.#handle?.readStop?.();
  }

  readAgain(): void {
    if (!this.#stopped || this.session.destroyed) return;
    this.#stopped = false;
    this.#handle?.readStart?.();
  }

  get #handle(): ReadHandle | null | undefined {
    return (this.socket as unknown as { _handle?: ReadHandle | null })._handle;
  }

  /** The next stream that its client has not reset meanwhile. */
  nextWaiting(): [ServerHttp2Stream, unknown[]] | undefined {
    for (let next = this.waiting.shift(); next !== undefined; next = this.waiting.shift())
      if (!next[0].destroyed && !next[0].aborted) return next;
    return undefined;
  }

  /** Spends from the allowance for resets; false when it is empty. */
  mayReset(): boolean {
    const nowMs = performance.now();
    const earned = ((nowMs - this.#resetAtMs) * RESETS_PER_SECOND) / 1_000;
    this.#resetsLeft = Math.min(RESET_BURST, this.#resetsLeft + earned) - 1;
    this.#resetAtMs = nowMs;
    return this.#resetsLeft >= 0;
  }
}
