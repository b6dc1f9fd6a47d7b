/** Detects that an endpoint is absent, by signs of life on its connection. */
import { Timer, type TimerWheel } from '../../clock/timer-wheel.ts';
import { type Arrows, step } from '../../errors/illegal-step.ts';
import { isSidecar } from '../../grpc/sidecar-settings.ts';
import type { StreamConnection } from '../../http2/streams.ts';
import type { Endpoint } from '../endpoint.ts';
import { SIGN_OF_LIFE } from './health-request.ts';
import { HealthProbe } from './probe.ts';

export interface SilenceEnvironment {
  readonly wheel: TimerWheel;
  readonly clock: () => number;
  /** The endpoint gives no sign of life: it has processed nothing that we sent since. */
  onAbsent(endpoint: Endpoint): void;
  /** The endpoint was absent, and gives a sign of life again. */
  onBack(endpoint: Endpoint): void;
  /** The endpoint was absent, and the connection that would have carried its sign of life has closed. */
  onLost(endpoint: Endpoint): void;
}

/**
 * An endpoint without a sign of life at two checks is absent: after 250 ms. It takes two, because the first one may be late
 * while a sign is still unread: this process may have been busy or stopped itself.
 */
const CHECK_MS = 125;
const CHECKS_UNTIL_ABSENT = 2;
/** How often we check an absent endpoint. A sidecar is asked again; any other endpoint still owes its first sign. */
const ABSENT_CHECK_MS = 500;
/** How long its sidecar's answer may take, and again as long for a sign of life of the sidecar itself. */
const SIDECAR_TIMEOUT_MS = 1_000;

/**
 * Distinguishes an absent endpoint (its process is stopped, its host does not answer) from one that is present and does not answer
 * calls. Both look the same to a caller whose deadline passes. The watch asks HTTP/2 itself (`control.requestSign`), which
 * answers even while every handler hangs. When the endpoint is a sidecar, the watch asks it whether its app gives a sign.
 *
 *     asked ──a sign──▶ present, and nothing changes
 *       │
 *       └──no sign at two checks──▶ absent ──a sign──▶ back
 *                                     └──the connection is lost──▶ `return-watch.ts` tries to connect
 */
export class SilenceWatch {
  private readonly environment: SilenceEnvironment;
  private readonly requests = new Map<Endpoint, SignRequest>();
  private closed = false;

  constructor(environment: SilenceEnvironment) {
    this.environment = environment;
  }

  /**
   * Asks for a sign of life, unless a request is pending already.
   *
   * @param onAnswer called once with whether the endpoint is present
   */
  requestSign(endpoint: Endpoint, connection: StreamConnection, onAnswer?: (alive: boolean) => void): void {
    let request = this.requests.get(endpoint);
    if (request === undefined || request.connection.closed) {
      if (this.closed || connection.closed) {
        onAnswer?.(false);
        return;
      }
      request?.end();
      request = new SignRequest(this.environment, this.requests, endpoint, connection);
      this.requests.set(endpoint, request);
      request.start();
    }
    if (onAnswer !== undefined) request.whenKnown(onAnswer);
  }

  /** Whether the endpoint was asked and has given no sign of life since. */
  isAbsent(endpoint: Endpoint): boolean {
    const request = this.requests.get(endpoint);
    return request?.absent === true && !request.connection.closed;
  }

  /** Whether any request for a sign of life is pending. */
  get isPending(): boolean {
    return this.requests.size > 0;
  }

  close(): void {
    this.closed = true;
    for (const request of [...this.requests.values()]) request.end();
  }
}

/** The states of one request for a sign of life; an endpoint that is back has ended its request. */
type SignState = 'asked' | 'absent' | 'ended';

export const SIGN_ARROWS: Arrows<SignState> = {
  asked: ['absent', 'ended'],
  absent: ['ended'],
  ended: [],
};

class SignRequest extends Timer {
  readonly connection: StreamConnection;
  private state: SignState = 'asked';
  private readonly environment: SilenceEnvironment;
  private readonly requests: Map<Endpoint, SignRequest>;
  private readonly endpoint: Endpoint;
  private readonly waiting: ((alive: boolean) => void)[] = [];
  private requestedAtMs = 0;
  private checks = 0;
  /** Its own HTTP/2 has answered: from then on a sidecar is asked for its app. */
  private signed = false;
  private probe: HealthProbe | undefined = undefined;

  constructor(
    environment: SilenceEnvironment,
    requests: Map<Endpoint, SignRequest>,
    endpoint: Endpoint,
    connection: StreamConnection,
  ) {
    super();
    this.environment = environment;
    this.requests = requests;
    this.endpoint = endpoint;
    this.connection = connection;
  }

  get absent(): boolean {
    return this.state === 'absent';
  }

  start(): void {
    const { wheel, clock } = this.environment;
    this.requestedAtMs = clock();
    wheel.arm(this, this.requestedAtMs + CHECK_MS);
    this.connection.control.requestSign(() => this.onSign());
  }

  whenKnown(onAnswer: (alive: boolean) => void): void {
    if (this.absent) onAnswer(false);
    else this.waiting.push(onAnswer);
  }

  private onSign(): void {
    if (this.state === 'ended' || this.signed) return;
    this.signed = true;
    if (isSidecar(this.connection.peer)) this.probeSidecar();
    else this.becomePresent();
  }

  /** The app may be absent while its sidecar is present. */
  private probeSidecar(): void {
    const { wheel, clock } = this.environment;
    wheel.cancel(this);
    this.probe = new HealthProbe(this.endpoint, wheel, SIDECAR_TIMEOUT_MS, SIGN_OF_LIFE, (result) => {
      this.probe = undefined;
      if (result === 'not_serving' || result === 'unreachable') this.becomeAbsent();
      else if (result !== 'turned_away') this.becomePresent();
      if (this.state !== 'ended') wheel.arm(this, clock() + ABSENT_CHECK_MS);
    });
    this.probe.start(clock());
  }

  override onTimeout(nowMs: number): void {
    const { connection, environment } = this;
    if (connection.closed || this.endpoint.removed) {
      const { absent } = this;
      this.end();
      if (absent) environment.onLost(this.endpoint);
    } else if (this.signed) this.probeSidecar();
    // Any byte is a sign of life: `requestSign` sends nothing to a peer that owes many signs.
    else if (connection.lastReadAtMs > this.requestedAtMs) this.onSign();
    else {
      this.checks++;
      if (this.checks >= CHECKS_UNTIL_ABSENT) this.becomeAbsent();
      environment.wheel.arm(this, nowMs + (this.absent ? ABSENT_CHECK_MS : CHECK_MS));
    }
  }

  private becomeAbsent(): void {
    if (this.state !== 'asked') return;
    this.state = step(SIGN_ARROWS, this.state, 'absent');
    this.notify(false);
    this.environment.onAbsent(this.endpoint);
  }

  private becomePresent(): void {
    const { absent, endpoint } = this;
    this.finish(true);
    if (absent && !endpoint.removed) this.environment.onBack(endpoint);
  }

  end(): void {
    this.finish(false);
  }

  private finish(alive: boolean): void {
    if (this.state !== 'ended') this.state = step(SIGN_ARROWS, this.state, 'ended');
    this.environment.wheel.cancel(this);
    this.probe?.cancel();
    if (this.requests.get(this.endpoint) === this) this.requests.delete(this.endpoint);
    this.notify(alive);
  }

  private notify(alive: boolean): void {
    for (const onAnswer of this.waiting.splice(0)) onAnswer(alive);
  }
}
