/** The lifetime of one downstream connection: preface timeout, maximum age, graceful GOAWAY. */
import type { Server } from 'node:net';
import { Timer } from '../clock/timer-wheel.ts';
import type { Keepalive } from '../grpc/keepalive.ts';
import type { Connection } from '../http2/connection.ts';
import { ConnectionError } from '../http2/errors.ts';
import { ErrorCode } from '../http2/frame.ts';
import type { Caller } from '../proxy/caller.ts';
import type { ConnectionPlace, IdleCandidate } from './connection-places.ts';

/** How long the preface and SETTINGS may take; then a silent client's connection is closed. */
export const PREFACE_TIMEOUT_MS = 10_000;

/** A listener's state of one downstream connection, and its timer: preface, then age, then the second GOAWAY. */
export class Lifetime extends Timer implements IdleCandidate {
  readonly connection: Connection;
  readonly keepalive: Keepalive;
  /** The server that accepted it. */
  readonly server: Server;
  readonly place: ConnectionPlace;
  readonly caller: Caller;
  /** Shut it down as soon as it is ready. */
  leaving = false;
  private readonly onEnd: () => void;
  private goaway = false;

  constructor(
    connection: Connection,
    keepalive: Keepalive,
    server: Server,
    place: ConnectionPlace,
    caller: Caller,
    onEnd: () => void,
  ) {
    super();
    this.connection = connection;
    this.keepalive = keepalive;
    this.server = server;
    this.place = place;
    this.caller = caller;
    this.onEnd = onEnd;
  }

  override onTimeout(): void {
    const { connection } = this;
    if (!connection.ready) {
      const message = `no HTTP/2 preface and SETTINGS within ${PREFACE_TIMEOUT_MS} ms`;
      connection.close(new ConnectionError('peer', ErrorCode.SETTINGS_TIMEOUT, message));
    } else if (this.goaway) {
      connection.finishShutdown();
    } else {
      this.goaway = true;
      this.onEnd();
    }
  }

  markGoaway(): void {
    this.goaway = true;
  }

  get isIdle(): boolean {
    return this.connection.streams.size === 0;
  }

  get lastReadAtMs(): number {
    return this.connection.lastReadAtMs;
  }

  /** Closes the idle connection to free its place. The client retries a call in transit elsewhere (RFC 9113 §6.8). */
  makeRoom(): void {
    const { connection } = this;
    const message = 'idle, and another connection needs the place';
    // GOAWAY must not come before SETTINGS (RFC 9113 §3.4).
    const error = new ConnectionError('local', ErrorCode.NO_ERROR, message);
    if (connection.ready) connection.closeWithGoaway(ErrorCode.NO_ERROR, message, error);
    else connection.close(error);
  }
}
