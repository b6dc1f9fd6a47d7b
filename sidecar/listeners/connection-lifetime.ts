/** The lifetime of one downstream connection: preface timeout, maximum age, graceful GOAWAY. */
import type { Server } from 'node:net';
import { Timer } from '../clock/timer-wheel.ts';
import { type Arrows, step } from '../errors/illegal-step.ts';
import type { Keepalive } from '../grpc/keepalive.ts';
import type { Connection } from '../http2/connection.ts';
import { ConnectionError } from '../http2/errors.ts';
import { ErrorCode } from '../http2/frame.ts';
import type { Caller } from '../proxy/caller.ts';
import type { ConnectionPlace, IdleCandidate } from './connection-places.ts';

/** How long the preface and SETTINGS may take; then a silent client's connection is closed. */
export const PREFACE_TIMEOUT_MS = 10_000;

/**
 * The states of a downstream connection:
 *
 *     opening ──preface and SETTINGS──▶ open ──too old, or the listener drains──▶ going_away ──second GOAWAY
 *        └──the listener drains──▶ leaving ──preface and SETTINGS──▶ going_away
 *
 * A connection that is `leaving` is shut down as soon as it is ready: GOAWAY must not come before SETTINGS (RFC 9113 §3.4).
 */
type LifetimeState = 'opening' | 'leaving' | 'open' | 'going_away';

export const LIFETIME_ARROWS: Arrows<LifetimeState> = {
  opening: ['open', 'leaving'],
  leaving: ['going_away'],
  open: ['going_away'],
  going_away: [],
};

/** A listener's state of one downstream connection, and its timer: preface, then age, then the second GOAWAY. */
export class Lifetime extends Timer implements IdleCandidate {
  readonly connection: Connection;
  readonly keepalive: Keepalive;
  /** The server that accepted it; undefined for a connection of this process to itself. */
  readonly server: Server | undefined;
  readonly place: ConnectionPlace;
  readonly caller: Caller;
  private readonly onEnd: () => void;
  private state: LifetimeState = 'opening';

  constructor(
    connection: Connection,
    keepalive: Keepalive,
    server: Server | undefined,
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
    } else if (this.state === 'going_away') {
      connection.finishShutdown();
    } else {
      this.goAway();
      this.onEnd();
    }
  }

  /** The connection has sent and received its SETTINGS. @returns `leaving` if it shall be shut down at once */
  onReady(): LifetimeState {
    if (this.state === 'opening') this.state = step(LIFETIME_ARROWS, this.state, 'open');
    return this.state;
  }

  leaveWhenReady(): void {
    if (this.state === 'opening') this.state = step(LIFETIME_ARROWS, this.state, 'leaving');
  }

  /** The first GOAWAY is sent: the timer now waits for the second one. */
  goAway(): void {
    if (this.state !== 'going_away') this.state = step(LIFETIME_ARROWS, this.state, 'going_away');
  }

  /** Whether it may be closed for another connection, which then gets its place. */
  get isIdle(): boolean {
    return this.place.isOpen && this.connection.streams.size === 0;
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
