/** The one connection of a log to the NATS servers: comes back by itself, and says when it is away. */
import { type JetStreamManager, jetstreamManager } from '@nats-io/jetstream';
import {
  type Msg,
  type MsgHdrs,
  type NatsConnection,
  PermissionViolationError,
  type Subscription,
} from '@nats-io/transport-node';
import { LogSetupError, LogUnavailableError } from '../log/log-errors.ts';
import { ANSWER_MS, dial, newInbox } from './dialing.ts';
import { asUnavailable } from './link-errors.ts';
import { askMany } from './many-answers.ts';
import type { LinkOptions } from './nats-options.ts';
import { type LinkState, Patience } from './patience.ts';
import { Questions } from './questions.ts';
import { ServerClock } from './server-clock.ts';

const RECONNECT_MS = { least: 50, most: 2_000 };
const CLOCK_EACH_MS = 30_000;

export class BusLink {
  readonly clock = new ServerClock();
  onConnected: ((connected: boolean) => void) | undefined;
  private state: LinkState = 'away';
  private nc: NatsConnection | undefined;
  private questions: Questions | undefined;
  private manager: JetStreamManager | undefined;
  /** Of calls that wait for the server, beside the questions. */
  private readonly waiting = new Set<(error: LogUnavailableError) => void>();
  private readonly patience = new Patience(() => this.state);
  private why = 'no server has answered yet';
  private opening: { readonly resolve: () => void; readonly reject: (error: unknown) => void } | undefined;
  private clockTimer: NodeJS.Timeout | undefined;
  private reconnects = 0;
  private readonly options: LinkOptions;
  /** Checks the streams; called at each connection. */
  private readonly prepare: (jsm: JetStreamManager) => Promise<void>;

  constructor(options: LinkOptions, prepare: (jsm: JetStreamManager) => Promise<void>) {
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

  /** The name under which this log publishes; undefined where it has none of its own. */
  get publisher(): string | undefined {
    return this.options.publisher;
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
    const nc = await dial(this.options, () => this.nextDelayMs());
    // The wait is over: nobody wants it any more.
    if (this.now() === 'closed') return nc.close();
    this.nc = nc;
    this.questions = new Questions(nc, this.inbox());
    void this.follow(nc);
    await this.ready();
  }

  /** An inbox that nobody else may listen at. */
  inbox(): string {
    return newInbox(this.options);
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

  /** Rejects with LogUnavailableError when away, or when no answer comes. */
  async request(subject: string, body: Uint8Array | string, headers?: MsgHdrs): Promise<Msg> {
    if (this.state !== 'ready') throw this.awayError();
    return this.questions!.ask(subject, body, headers);
  }

  /** A request with many answers, up to `most` or the server's word that there are no more. */
  requestMany(subject: string, body: string, most: number, visit: (answer: Msg) => void): Promise<number> {
    return this.answer((nc) => askMany(nc, this.inbox(), subject, body, most, visit));
  }

  /** Runs calls of the client's manager; their outages become LogUnavailableError. */
  manage<T>(call: (jsm: JetStreamManager) => Promise<T>): Promise<T> {
    return this.answer(() => call(this.jsm));
  }

  /** Does something that may be done again, until it is done or the time is over. */
  persist<T>(untilMs: number, attempt: () => Promise<T>): Promise<T> {
    return this.patience.persist(untilMs, attempt);
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
      throw asUnavailable(error);
    } finally {
      this.waiting.delete(giveUp!);
    }
  }

  private async follow(nc: NatsConnection): Promise<void> {
    for await (const status of nc.status()) {
      if (status.type === 'disconnect') this.away('the connection was lost');
      else if (status.type === 'reconnect') void this.ready();
      else if (status.type === 'error') {
        this.why = status.error.message;
        if (status.error instanceof PermissionViolationError) this.questions?.forbid(status.error);
      }
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
        const error = asUnavailable(cause);
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

  private turn(state: LinkState): void {
    const wasConnected = this.connected;
    this.state = state;
    if (state === 'away' || state === 'closed') {
      const error = new LogUnavailableError(
        `the bus can't be reached (${state === 'away' ? this.why : 'it was closed'})`,
        true,
      );
      this.questions?.fail(error);
      for (const reject of [...this.waiting]) reject(error);
    }
    if (state === 'ready' || state === 'closed') this.patience.wake();
    if (wasConnected !== this.connected) this.onConnected?.(this.connected);
  }

  /** Read anew: an await lies between. */
  private now(): LinkState {
    return this.state;
  }

  private nextDelayMs(): number {
    const most = Math.min(RECONNECT_MS.most, RECONNECT_MS.least * 2 ** Math.min(10, this.reconnects++));
    return most / 2 + Math.random() * (most / 2);
  }
}
