/** Serves the agent's model requests over HTTP/2 without TLS, and bounds what the connections may hold. */
import type { Http2Server, ServerHttp2Session, ServerHttp2Stream } from 'node:http2';
import type { Socket } from 'node:net';
import type { DownstreamRequest, DownstreamResponse } from '../llm/caller/reply.ts';

type Http2 = typeof import('node:http2');
/** Node's own listener: makes a request and a response of a stream, and passes them to the server's listeners. */
type AcceptStream = (stream: ServerHttp2Stream, ...head: unknown[]) => void;
/** @returns false when the request was refused and only its answer remains */
type Serve = (request: DownstreamRequest, response: DownstreamResponse) => boolean;

/** The most streams of one connection at a time: usual clients open at most 100. Node refuses more. */
const MAX_STREAMS = 256;
/** The most fields of a request: Node's default. An indexed empty field takes one byte on the wire and far more in memory. */
const MAX_FIELDS = 128;
/** Megabytes for one connection. */
const MAX_SESSION_MEMORY_MB = 64;
/** The most open streams, over all connections, that the egress has refused or not seen yet. */
const MAX_IDLE_STREAMS = 1_024;
/** The most requests that begin in one turn of the event loop. */
const TURN_STREAMS = 16;
/** After this many heads in one turn of the event loop, all connections stop reading: one read may bring hundreds. */
const TURN_HEADS = 32;
/** The requests that a client may cancel on one connection, at once and each second. */
const RESET_BURST = 512;
const RESETS_PER_SECOND = 200;
/** Node's own limit on resets ends a connection without closing it, so it has to be higher than ours. */
const NODE_RESET_FACTOR = 4;

/**
 * The agent's HTTP/2 connections. Node bounds each connection, and processes everything in a read at once; this bounds what
 * all connections together hold and do:
 *
 *     stream ──turn──▶ accepted by the egress, up to `llm.limits.max_concurrent_requests`
 *       │        └───▶ refused: open until its answer has been read and its body has ended
 *       └ queued: its connection is not read until its turn; if its client resets it, it costs nothing more
 *
 * When too many open streams are not accepted by the egress, the connection with most of them is closed.
 */
export class LlmHttp2 {
  private readonly server: Http2Server;
  private readonly connections = new Set<Connection>();
  private readonly bySession = new WeakMap<ServerHttp2Session, Connection>();
  /** Connections with streams that wait for a turn. */
  private line: Connection[] = [];
  private acceptStream: AcceptStream = () => {};
  private idleStreams = 0;
  private streamsOfTurn = 0;
  private headsOfTurn = 0;
  private isNextTurnDue = false;
  private arriving: Socket | undefined = undefined;
  private readonly serve: Serve;
  private readonly http2: Http2;

  /** @param idleMs a connection without requests is closed after this time */
  constructor(http2: Http2, idleMs: number, serve: Serve) {
    this.http2 = http2;
    this.serve = serve;
    const listener = (request: DownstreamRequest, response: DownstreamResponse): void =>
      this.begin(request, response);
    this.server = http2.createServer(
      {
        settings: { maxConcurrentStreams: MAX_STREAMS },
        maxHeaderListPairs: MAX_FIELDS,
        maxSessionMemory: MAX_SESSION_MEMORY_MB,
        streamResetBurst: RESET_BURST * NODE_RESET_FACTOR,
        streamResetRate: RESETS_PER_SECOND * NODE_RESET_FACTOR,
      },
      listener,
    );
    const server = this.server;
    server.on('checkContinue', listener);
    server.on('connect', listener);
    server.on('sessionError', () => {});
    server.on('session', (session) => this.open(session, idleMs));
    // Streams arrive here first, and go to Node's listener when it is their turn.
    [this.acceptStream] = server.listeners('stream') as [AcceptStream];
    server.removeAllListeners('stream');
    server.on('stream', (stream, ...head) => this.arrive(stream, head));
  }

  /** Accepts a connection that begins with the HTTP/2 preface. */
  accept(socket: Socket): void {
    this.arriving = socket;
    this.server.emit('connection', socket);
    this.arriving = undefined;
  }

  private open(session: ServerHttp2Session, idleMs: number): void {
    const connection = new Connection(session, this.arriving!);
    this.connections.add(connection);
    this.bySession.set(session, connection);
    session.once('close', () => this.forget(connection));
    session.setTimeout(idleMs, () => {
      if (connection.streams === 0) session.close();
      // All its requests were refused, and the client neither reads the answers nor ends the requests.
      else if (connection.streams === connection.idleStreams) session.destroy();
    });
  }

  private arrive(stream: ServerHttp2Stream, head: unknown[]): void {
    // Node throws an error event that has no listener.
    stream.on('error', () => {});
    const connection = this.bySession.get(stream.session as ServerHttp2Session);
    if (connection === undefined) return;
    connection.streams++;
    this.changeIdle(connection, 1);
    stream.once('close', () => {
      connection.streams--;
      if (!this.connections.has(connection)) return;
      if (!connection.taken.delete(stream)) this.changeIdle(connection, -1);
      if (stream.aborted && !connection.mayReset()) this.end(connection);
    });
    this.expectTurn();
    if (++this.headsOfTurn === TURN_HEADS) for (const one of this.connections) one.stopReading();
    if (connection.waiting.length === 0 && this.streamsOfTurn < TURN_STREAMS) {
      this.streamsOfTurn++;
      this.acceptStream(stream, ...head);
    } else {
      if (connection.waiting.length === 0) this.line.push(connection);
      connection.waiting.push([stream, head]);
      connection.stopReading();
    }
    if (this.idleStreams > MAX_IDLE_STREAMS) this.endLargest();
  }

  private begin(request: DownstreamRequest, response: DownstreamResponse): void {
    const { stream } = request as { stream?: ServerHttp2Stream };
    const connection = this.bySession.get(stream?.session as ServerHttp2Session);
    if (!this.serve(request, response) || connection === undefined || stream!.destroyed) return;
    connection.taken.add(stream!);
    this.changeIdle(connection, -1);
  }

  private expectTurn(): void {
    if (this.isNextTurnDue) return;
    this.isNextTurnDue = true;
    setImmediate(() => this.turn());
  }

  /** Begins one stream of each queued connection, as long as the turn has room. */
  private turn(): void {
    this.isNextTurnDue = false;
    this.streamsOfTurn = 0;
    this.headsOfTurn = 0;
    const line = this.line;
    let first = 0;
    for (; first < line.length && this.streamsOfTurn < TURN_STREAMS; first++) {
      const connection = line[first]!;
      const next = connection.nextWaiting();
      if (next !== undefined) {
        this.streamsOfTurn++;
        this.acceptStream(next[0], ...next[1]);
      }
      if (connection.waiting.length > 0) line.push(connection);
    }
    this.line = line.slice(first);
    if (this.line.length > 0) this.expectTurn();
    for (const connection of this.connections) if (connection.waiting.length === 0) connection.readAgain();
  }

  private changeIdle(connection: Connection, by: number): void {
    connection.idleStreams += by;
    this.idleStreams += by;
  }

  private endLargest(): void {
    let largest: Connection | undefined;
    for (const one of this.connections)
      if (!one.session.destroyed && one.idleStreams > (largest?.idleStreams ?? 0)) largest = one;
    if (largest !== undefined) this.end(largest);
  }

  /** Stops counting its streams at once, although Node closes them one after the other. */
  private forget(connection: Connection): void {
    if (this.connections.delete(connection)) this.changeIdle(connection, -connection.idleStreams);
    this.bySession.delete(connection.session);
  }

  /** Closes the connection, even when its peer does not read and the GOAWAY can't be sent. */
  private end(connection: Connection): void {
    const { session, socket } = connection;
    connection.waiting.length = 0;
    if (session.destroyed) return;
    this.forget(connection);
    // Two steps: `destroy` with a code would create an error for each stream.
    session.goaway(this.http2.constants.NGHTTP2_ENHANCE_YOUR_CALM);
    session.destroy();
    setImmediate(() => socket.destroy());
  }
}

/** Node's handle of a socket. An HTTP/2 session takes it over, and the socket's `pause` has no effect after that. */
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
  /** The streams among them that the egress has not accepted. */
  idleStreams = 0;
  private resetsLeft = RESET_BURST;
  private resetAtMs = 0;
  private stopped = false;

  constructor(session: ServerHttp2Session, socket: Socket) {
    this.session = session;
    this.socket = socket;
  }

  stopReading(): void {
    if (this.stopped || this.session.destroyed) return;
    this.stopped = true;
    this.handle?.readStop?.();
  }

  readAgain(): void {
    if (!this.stopped || this.session.destroyed) return;
    this.stopped = false;
    this.handle?.readStart?.();
  }

  private get handle(): ReadHandle | null | undefined {
    return (this.socket as unknown as { _handle?: ReadHandle | null })._handle;
  }

  /** Returns the next queued stream that its client has not reset. */
  nextWaiting(): [ServerHttp2Stream, unknown[]] | undefined {
    for (let next = this.waiting.shift(); next !== undefined; next = this.waiting.shift())
      if (!next[0].destroyed && !next[0].aborted) return next;
    return undefined;
  }

  /** Counts a reset; returns false when the client has sent too many. */
  mayReset(): boolean {
    const nowMs = performance.now();
    const earned = ((nowMs - this.resetAtMs) * RESETS_PER_SECOND) / 1_000;
    this.resetsLeft = Math.min(RESET_BURST, this.resetsLeft + earned) - 1;
    this.resetAtMs = nowMs;
    return this.resetsLeft >= 0;
  }
}
