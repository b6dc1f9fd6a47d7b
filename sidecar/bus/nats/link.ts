/** The one connection of a log to the NATS servers: comes back by itself, and says when it is away. */
import { readFileSync } from 'node:fs';
import {
  JetStreamApiError,
  JetStreamError,
  type JetStreamManager,
  jetstreamManager,
} from '@nats-io/jetstream';
import {
  type Authenticator,
  connect,
  createInbox,
  credsAuthenticator,
  type Msg,
  type MsgHdrs,
  type NatsConnection,
  PermissionViolationError,
  RequestError,
  type Subscription,
  usernamePasswordAuthenticator,
} from '@nats-io/transport-node';
import { LogSetupError, LogUnavailableError } from '../log/log-errors.ts';
import { encodeToken } from './names.ts';
import type { NatsOptions } from './nats-options.ts';
import { ServerClock } from './server-clock.ts';

/** The longest wait for one answer of the server. */
export const ANSWER_MS = 3_000;
const RECONNECT_MS = { least: 50, most: 2_000 };
const CLOCK_EACH_MS = 30_000;
const SILENT_LINK_MS = 4_000;

/** Statuses that end many answers: end of batch, none, time is over. */
const NO_MORE: ReadonlySet<number> = new Set([204, 404, 408]);

/** `away`: no server. `preparing`: its streams are being checked. */
type State = 'away' | 'preparing' | 'ready' | 'closed';

export class BusLink {
  readonly clock = new ServerClock();
  onConnected: ((connected: boolean) => void) | undefined;
  private state: State = 'away';
  private nc: NatsConnection | undefined;
  private manager: JetStreamManager | undefined;
  /** Of requests that wait for an answer. */
  private readonly waiting = new Set<(error: LogUnavailableError) => void>();
  private readonly returned = new Set<() => void>();
  private why = 'no server has answered yet';
  private opening: { readonly resolve: () => void; readonly reject: (error: unknown) => void } | undefined;
  private clockTimer: NodeJS.Timeout | undefined;
  private reconnects = 0;
  private readonly options: NatsOptions;
  /** Checks the streams; called at each connection. */
  private readonly prepare: (jsm: JetStreamManager) => Promise<void>;

  constructor(options: NatsOptions, prepare: (jsm: JetStreamManager) => Promise<void>) {
    this.options = options;
    this.prepare = prepare;
  }

  get connected(): boolean {
    return this.state === 'ready';
  }

  get jsm(): JetStreamManager {
    if (this.manager === undefined || this.state !== 'ready') throw this.awayError();
    return this.manager;
  }

  get maxPayload(): number {
    return this.nc?.info?.max_payload ?? 1_048_576;
  }

  /**
   * Connects for the first time; later connections come by themselves.
   *
   * @throws LogSetupError, or LogUnavailableError when nothing came of it within `waitMs`; then it is closed
   */
  async open(waitMs: number): Promise<void> {
    const opening = new Promise<void>((resolve, reject) => {
      this.opening = { resolve, reject };
    });
    const timer = setTimeout(() => this.opening?.reject(this.awayError()), waitMs);
    this.connect().catch((error: unknown) => this.opening?.reject(error));
    try {
      await opening;
    } catch (error) {
      await this.close();
      throw error;
    } finally {
      clearTimeout(timer);
      this.opening = undefined;
    }
  }

  private async connect(): Promise<void> {
    const { servers, tls, credentialsFile, user, publisher } = this.options;
    const authenticators: Authenticator[] = [];
    if (credentialsFile !== undefined) {
      readCredentials(credentialsFile);
      authenticators.push((nonce) => credsAuthenticator(readCredentials(credentialsFile))(nonce));
    }
    if (user !== undefined) authenticators.push(usernamePasswordAuthenticator(user.name, user.password));
    let nc: NatsConnection;
    try {
      nc = await connect({
        servers: [...servers],
        name: 'outrigger',
        authenticator: authenticators,
        ...(tls === undefined ? {} : { tls: tlsOptions(tls) }),
        ...(publisher === undefined ? {} : { inboxPrefix: inboxOf(publisher) }),
        reconnect: true,
        maxReconnectAttempts: -1,
        ignoreAuthErrorAbort: true,
        reconnectDelayHandler: () => this.nextDelayMs(),
        pingInterval: SILENT_LINK_MS / 2,
        maxPingOut: 2,
        noAsyncTraces: true,
        timeout: ANSWER_MS,
      });
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw new LogUnavailableError(`the bus can't be reached (${why})`, false, error);
    }
    // The wait is over: nobody wants it any more.
    if (this.now() === 'closed') return nc.close();
    this.nc = nc;
    void this.follow(nc);
    await this.ready();
  }

  /** An inbox that nobody else may listen at. */
  inbox(): string {
    const { publisher } = this.options;
    return publisher === undefined ? createInbox() : createInbox(inboxOf(publisher));
  }

  /** @throws LogUnavailableError when away */
  subscribe(subject: string, callback: (message: Msg) => void, queue?: string): Subscription {
    if (this.nc === undefined || this.state === 'closed') throw this.awayError();
    return this.nc.subscribe(subject, {
      ...(queue === undefined ? {} : { queue }),
      callback: (error, message) => {
        if (error === null) callback(message);
      },
    });
  }

  /** Sends and asks for nothing; what is sent while away is dropped. */
  publish(subject: string, body?: Uint8Array | string, headers?: MsgHdrs, reply?: string): void {
    if (this.state !== 'ready') return;
    this.nc!.publish(subject, body, {
      ...(headers === undefined ? {} : { headers }),
      ...(reply === undefined ? {} : { reply }),
    });
  }

  /** @throws LogUnavailableError when away, or when no answer comes */
  request(subject: string, body: Uint8Array | string, headers?: MsgHdrs, timeout = ANSWER_MS): Promise<Msg> {
    return this.answer((nc) =>
      nc.request(subject, body, headers === undefined ? { timeout } : { timeout, headers }),
    );
  }

  /** A request with many answers, up to `most` or the server's word that there are no more. */
  async requestMany(
    subject: string,
    body: string,
    most: number,
    visit: (answer: Msg) => void,
  ): Promise<number> {
    let count = 0;
    let subscription: Subscription | undefined;
    let timer: NodeJS.Timeout | undefined;
    try {
      await this.answer(
        (nc) =>
          new Promise<void>((resolve, reject) => {
            const inbox = this.inbox();
            const wait = (): void => {
              clearTimeout(timer);
              timer = setTimeout(() => reject(new Error('timeout')), ANSWER_MS);
            };
            subscription = this.subscribe(inbox, (answer) => {
              if ((answer.headers?.code ?? 0) !== 0) {
                if (NO_MORE.has(answer.headers!.code)) resolve();
                else reject(new Error(`${answer.headers!.code} ${answer.headers!.description}`));
                return;
              }
              wait();
              visit(answer);
              count++;
              if (count >= most) resolve();
            });
            nc.publish(subject, body, { reply: inbox });
            wait();
          }),
      );
    } finally {
      clearTimeout(timer);
      subscription?.unsubscribe();
    }
    return count;
  }

  /** Runs calls of the client's manager; their outages become LogUnavailableError. */
  manage<T>(call: (jsm: JetStreamManager) => Promise<T>): Promise<T> {
    return this.answer(() => call(this.jsm));
  }

  /** Does something that may be done again, until it is done or the time is over. */
  async persist<T>(untilMs: number, attempt: () => Promise<T>): Promise<T> {
    let isOutcomeUnknown = false;
    for (let tries = 0; ; tries++) {
      try {
        return await attempt();
      } catch (error) {
        if (!(error instanceof LogUnavailableError)) throw error;
        isOutcomeUnknown ||= error.isOutcomeUnknown;
        if (performance.now() >= untilMs || this.state === 'closed')
          throw new LogUnavailableError(error.message, isOutcomeUnknown, error);
        await this.reachable(Math.min(untilMs - performance.now(), 50 * 2 ** Math.min(tries, 5)));
      }
    }
  }

  awayError(): LogUnavailableError {
    return new LogUnavailableError(`the bus can't be reached (${this.why})`, false);
  }

  async close(): Promise<void> {
    if (this.state === 'closed') return;
    this.turn('closed');
    clearInterval(this.clockTimer);
    await this.nc?.close().catch(() => {});
  }

  /** Waits for an answer, and no longer when the bus goes away. Its errors become LogUnavailableError. */
  async answer<T>(send: (nc: NatsConnection) => Promise<T>): Promise<T> {
    if (this.state !== 'ready') throw this.awayError();
    let giveUp: ((error: LogUnavailableError) => void) | undefined;
    try {
      return await new Promise<T>((resolve, reject) => {
        giveUp = reject;
        this.waiting.add(reject);
        send(this.nc!).then(resolve, reject);
      });
    } catch (error) {
      throw this.asUnavailable(error);
    } finally {
      this.waiting.delete(giveUp!);
    }
  }

  /** Errors that the server has answered stay; all others mean that it gave no answer. */
  private asUnavailable(error: unknown): unknown {
    if (error instanceof LogUnavailableError || error instanceof LogSetupError) return error;
    if (error instanceof JetStreamApiError && error.status < 500) return error;
    const refused = error instanceof JetStreamApiError || isNobodyThere(error);
    if (!(error instanceof Error)) return error;
    const denied = [error, error.cause].find((each) => each instanceof PermissionViolationError);
    if (denied !== undefined) {
      const what = `${denied.operation} on ${denied.subject}`;
      return new LogSetupError(
        `the NATS server forbids ${what}: give this sidecar the rules that "outrigger bus setup --permissions" prints`,
        error,
      );
    }
    const cause = error instanceof JetStreamError ? error.message : String(error);
    return new LogUnavailableError(`the bus gave no answer (${cause})`, !refused, error);
  }

  private async reachable(limitMs: number): Promise<void> {
    const wasReady = this.state === 'ready';
    await new Promise<void>((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.returned.delete(done);
        resolve();
      };
      const timer = setTimeout(done, Math.max(1, limitMs));
      if (!wasReady) this.returned.add(done);
    });
  }

  private async follow(nc: NatsConnection): Promise<void> {
    for await (const status of nc.status()) {
      if (status.type === 'disconnect') this.away('the connection was lost');
      else if (status.type === 'reconnect') void this.ready();
      else if (status.type === 'error') this.why = status.error.message;
    }
    if (this.state !== 'closed') this.away('the connection was closed');
  }

  private away(why: string): void {
    this.why = why;
    if (this.state === 'closed') return;
    this.turn('away');
  }

  /** Checks the streams, again and again while the server can't. */
  private async ready(): Promise<void> {
    if (this.state !== 'away') return;
    this.turn('preparing');
    for (let wait = RECONNECT_MS.least; this.now() === 'preparing'; wait = Math.min(2_000, wait * 2)) {
      try {
        this.manager = await jetstreamManager(this.nc!, { checkAPI: false, timeout: ANSWER_MS });
        await this.prepare(this.manager);
        if (this.now() !== 'preparing') return;
        this.reconnects = 0;
        this.turn('ready');
        this.clock.restart();
        clearInterval(this.clockTimer);
        this.clockTimer = setInterval(() => void this.sampleClock().catch(() => {}), CLOCK_EACH_MS);
        this.clockTimer.unref();
        for (let sample = 0; sample < 3; sample++) await this.sampleClock().catch(() => {});
        this.opening?.resolve();
        return;
      } catch (cause) {
        const error = this.asUnavailable(cause);
        this.why = error instanceof Error ? error.message : String(error);
        if (error instanceof LogSetupError) this.opening?.reject(error);
        await new Promise((resolve) => setTimeout(resolve, wait));
      }
    }
  }

  private async sampleClock(): Promise<void> {
    const sentMs = performance.now();
    const answer = await this.request('$JS.API.STREAM.INFO.OUTRIGGER_KEYS', '');
    const receivedMs = performance.now();
    const { ts } = answer.json<{ ts?: string }>();
    if (ts !== undefined) this.clock.sample(Date.parse(ts), sentMs, receivedMs);
  }

  private turn(state: State): void {
    const wasConnected = this.connected;
    this.state = state;
    if (state === 'away' || state === 'closed') {
      const error = new LogUnavailableError(
        `the bus can't be reached (${state === 'away' ? this.why : 'it was closed'})`,
        true,
      );
      for (const reject of [...this.waiting]) reject(error);
    }
    if (state === 'ready' || state === 'closed') for (const resolve of [...this.returned]) resolve();
    if (wasConnected !== this.connected) this.onConnected?.(this.connected);
  }

  /** Read anew: an await lies between. */
  private now(): State {
    return this.state;
  }

  private nextDelayMs(): number {
    const most = Math.min(RECONNECT_MS.most, RECONNECT_MS.least * 2 ** Math.min(10, this.reconnects++));
    return most / 2 + Math.random() * (most / 2);
  }
}

function readCredentials(file: string): Uint8Array {
  try {
    return readFileSync(file);
  } catch (error) {
    throw new LogSetupError(
      `the credentials for NATS can't be read (${String(error)}): check bus.credentials_file`,
      error,
    );
  }
}

const inboxOf = (publisher: string): string => `_INBOX.${encodeToken(publisher)}`;

function tlsOptions({ ca, cert, key }: NonNullable<NatsOptions['tls']>) {
  return {
    ...(ca === undefined ? {} : { caFile: ca }),
    ...(cert === undefined ? {} : { certFile: cert }),
    ...(key === undefined ? {} : { keyFile: key }),
  };
}

/** No stream listens at the subject: it isn't there, or has no leader now. */
function isNobodyThere(error: unknown): boolean {
  return error instanceof RequestError && error.isNoResponders();
}
