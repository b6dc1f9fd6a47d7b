/** A connection of the process to its own inbound listener, for the tasks of one caller. */
import { type ClientHttp2Session, connect } from 'node:http2';
import type { Socket } from 'node:net';
import { Timer, type TimerWheel } from '../../clock/timer-wheel.ts';
import { socketPair } from '../../net/socket-pair.ts';
import { InnerCall, type InnerRequest } from './inner-call.ts';

/** The caller whose tasks a connection carries, and what tells them apart. */
export interface TaskCaller {
  /** The verified name of the publisher; '' where nothing verifies it. */
  readonly identity: string;
  /** The digest of the caller's scope at the publisher. */
  readonly scope: string;
  /** Tasks of different editions are different tasks, whatever they ask. */
  readonly edition: string;
}

/** The inbound listener: takes the connection as one of this caller. */
export type Adopt = (socket: Socket, caller: TaskCaller) => void;

/** Each task may be its caller's only one, so a connection waits a moment for the next. */
const IDLE_MS = 5_000;

export interface InnerEnvironment {
  readonly wheel: TimerWheel;
  readonly clock: () => number;
  readonly adopt: Adopt;
}

/** It makes the socket pair at once, and requests wait until that is connected. */
export class InnerConnection extends Timer {
  private readonly session: ClientHttp2Session;
  private readonly environment: InnerEnvironment;
  private running = 0;

  /** @param onGone no more calls can be made on it; called once */
  constructor(caller: TaskCaller, environment: InnerEnvironment, onGone: () => void) {
    super();
    this.environment = environment;
    const { adopt } = environment;
    const socket = socketPair({ onServer: (server) => adopt(server, caller) });
    this.session = connect('http://inbound', {
      createConnection: () => socket,
      settings: { enablePush: false },
      // In megabytes. Large requests of several tasks wait here, and Node resets the answers of a session above it (10 by default).
      maxSessionMemory: 1_000,
    });
    this.session.setMaxListeners(0);
    // The calls on it fail with it, and say why.
    this.session.on('error', onGone);
    this.session.on('goaway', onGone);
    this.session.on('close', onGone);
  }

  get isIdle(): boolean {
    return this.running === 0;
  }

  call(request: InnerRequest): InnerCall {
    const { wheel, clock } = this.environment;
    this.running++;
    wheel.cancel(this);
    const call = new InnerCall(this.session, request);
    void call.ended.then(() => {
      this.running--;
      if (this.isIdle && !this.session.closed) wheel.arm(this, clock() + IDLE_MS);
    });
    return call;
  }

  override onTimeout(): void {
    if (this.isIdle) this.session.close();
  }

  /** Ends its calls. */
  destroy(): void {
    this.environment.wheel.cancel(this);
    this.session.destroy();
  }
}
