/** Serves the agent's model requests over HTTP/2 without TLS, and bounds what the connections may hold. */
import type { Socket } from 'node:net';
import { Connection } from '../http2/connection.ts';
import type { ConnectionOwner } from '../http2/connection-owner.ts';
import { ConnectionError } from '../http2/errors.ts';
import { ErrorCode } from '../http2/frame.ts';
import type { MessageHead } from '../http2/head.ts';
import { heldRequests } from '../http2/held-requests.ts';
import type { HeaderList } from '../http2/hpack/header-list.ts';
import { type ConnectionLimits, headerLimits } from '../http2/limits.ts';
import type { Stream, StreamConnection } from '../http2/streams.ts';
import type { DownstreamRequest, DownstreamResponse } from '../llm/caller/downstream.ts';
import { Http2Exchange } from './http2-exchange.ts';

/** @returns false when the request was refused and only its answer remains */
type Serve = (request: DownstreamRequest, response: DownstreamResponse) => boolean;

/** Of a request's fields, over HTTP/1.1 and HTTP/2. */
export const MAX_HEADER_BYTES = 65_536;

const LIMITS: ConnectionLimits = {
  // Usual clients open at most 100.
  maxConcurrentStreams: 256,
  ...headerLimits(MAX_HEADER_BYTES),
  maxContinuations: 256,
  cancelBurst: 512,
  keptFields: new Set(),
  streamWindowBytes: 65_536,
  connectionWindowBytes: 1_048_576,
  maxBufferedBytes: 16_777_216,
};
/** The most open streams, over all connections, that the egress has refused or has answered before their end. */
const MAX_IDLE_STREAMS = 1_024;
/** A request is as much work as so many frames: 16 of them are a turn's (`http2/work-turns.ts`). */
const REQUEST_FRAMES = 120;
const HEAD_TOO_LARGE = 431;

/**
 * The agent's HTTP/2 connections, on the sidecar's own HTTP/2. That bounds the work of each connection in a turn of the event
 * loop, and what requests hold of which nothing comes; this bounds what all connections together hold beside the egress:
 *
 *     stream ──▶ accepted by the egress, up to `llm.limits.max_concurrent_requests`
 *       └─────▶ refused, or answered early: open until its answer has left and its body has ended
 *
 * When too many open streams are not the egress's, the connection with most of them is closed.
 */
export class LlmHttp2 implements ConnectionOwner<Connection> {
  private readonly clients = new Map<StreamConnection, Client>();
  private idleStreams = 0;
  private readonly clock: () => number;
  private readonly idleMs: number;
  private readonly serve: Serve;

  /** @param idleMs a connection without requests is closed after this time */
  constructor(clock: () => number, idleMs: number, serve: Serve) {
    this.clock = clock;
    this.idleMs = idleMs;
    this.serve = serve;
  }

  /** Accepts a connection that begins with the HTTP/2 preface. */
  accept(socket: Socket): void {
    const connection = new Connection(socket, this, { role: 'server', clock: this.clock, limits: LIMITS });
    this.clients.set(connection, new Client(connection));
    // Its requests are counted apart from those to other listeners.
    heldRequests.join(connection.held, `llm ${socket.remoteAddress ?? ''}`);
    socket.setTimeout(this.idleMs, () => this.onIdle(connection));
  }

  private onIdle(connection: Connection): void {
    const { closed, ready, streams } = connection;
    if (closed) return;
    if (streams.size === 0) {
      const message = 'no request for a long time';
      // GOAWAY must not come before SETTINGS (RFC 9113 §3.4).
      const error = new ConnectionError('local', ErrorCode.NO_ERROR, message);
      if (ready) connection.closeWithGoaway(ErrorCode.NO_ERROR, message, error);
      else connection.close(error);
    } else if (streams.size === this.clients.get(connection)?.idleStreams) {
      connection.fail('peer', ErrorCode.ENHANCE_YOUR_CALM, 'answers are not read, and requests do not end');
    }
  }

  onStream(stream: Stream, list: HeaderList, head: MessageHead): void {
    const client = this.clients.get(stream.connection)!;
    const { connection } = client;
    connection.reader.spend(REQUEST_FRAMES);
    let isTaken = false;
    this.countIdle(client, 1);
    const exchange = new Http2Exchange(
      stream,
      connection.socket,
      list,
      head,
      () => {
        if (!isTaken) return;
        isTaken = false;
        this.countIdle(client, 1);
        heldRequests.hold(stream);
      },
      () => this.countIdle(client, -1),
    );
    stream.handler = exchange;
    const { request, response } = exchange;
    if (list.oversize) {
      response.writeHead(HEAD_TOO_LARGE, { 'content-length': '0' }).end();
    } else if (this.serve(request, response) && !exchange.isOver) {
      isTaken = true;
      this.countIdle(client, -1);
      heldRequests.pass(stream);
    }
    if (this.idleStreams > MAX_IDLE_STREAMS) this.endLargest();
  }

  private countIdle(client: Client, by: number): void {
    client.idleStreams += by;
    if (!client.isGone) this.idleStreams += by;
  }

  private endLargest(): void {
    let largest: Client | undefined;
    for (const client of this.clients.values())
      if (client.idleStreams > (largest?.idleStreams ?? 0)) largest = client;
    const message = 'answers are not read, or requests do not end, and there are too many';
    largest?.connection.fail('peer', ErrorCode.ENHANCE_YOUR_CALM, message);
  }

  onReady(): void {
    // A server does not wait for it.
  }

  onCapacity(): void {
    // A server opens no streams.
  }

  onForeignClient(connection: Connection): void {
    connection.control.sendPrefaceAndSettings();
    connection.fail(
      'peer',
      ErrorCode.PROTOCOL_ERROR,
      'the connection does not begin with the HTTP/2 preface',
    );
  }

  onForeignServer(): void {
    // It accepts clients only.
  }

  onGoaway(): void {
    // The client opens no more streams; its present ones finish.
  }

  onClosed(connection: Connection): void {
    heldRequests.leave(connection.held);
    const client = this.clients.get(connection);
    if (client === undefined) return;
    this.clients.delete(connection);
    // Their exchanges hear of their ends later, one after the other.
    this.idleStreams -= client.idleStreams;
    client.isGone = true;
  }
}

class Client {
  readonly connection: Connection;
  /** Open streams that are not the egress's. */
  idleStreams = 0;
  isGone = false;

  constructor(connection: Connection) {
    this.connection = connection;
  }
}
