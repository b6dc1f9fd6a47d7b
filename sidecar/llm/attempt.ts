/**
 * One try of a request at one upstream: its clocks, and its answer's way to the caller.
 *
 *     connecting ──▶ waiting ──first byte──▶ flowing ──▶ over
 *      connect_failed  first_byte, deadline    idle, stream_cut, …
 *
 * Until the first byte that means something nothing is given to the caller, so that somebody else can be asked. From
 * then on the answer is committed: what goes wrong now breaks the caller's connection, after an error event where the
 * answer is a stream of events.
 */
import { Timer, type TimerWheel } from '../clock/timer-wheel.ts';
import { type AnswerBody, EventsBody, JsonBody, RawBody } from './answer-body.ts';
import { AttemptClocks } from './attempt-clocks.ts';
import { attemptFailure, type FailureContext, type FailureDetails } from './attempt-failure.ts';
import { billingCode, ErrorBody, isReadable } from './error-body.ts';
import { traitsOf } from './operations.ts';
import { errorEvent, type Reason } from './reasons.ts';
import {
  Relay,
  type RelayError,
  type RelayHandlers,
  type RelayRequest,
  type RequestHeaders,
} from './relay.ts';
import type { RequestFacts } from './request-facts.ts';
import type { AttemptFailure, FailureReason } from './retry.ts';
import { textOf } from './retry-after.ts';
import type { Sink } from './sink.ts';
import { type AnswerFacts, noFacts } from './usage.ts';

export interface AttemptOptions extends FailureContext {
  readonly request: RelayRequest;
  readonly facts: RequestFacts;
  readonly sink: Sink;
  readonly wheel: TimerWheel;
  /** Somebody else is asked when the first event of a stream does not come. */
  readonly resend: boolean;
  readonly stripUsage: boolean;
  readonly maxOutputEvents: number;
}

/** What the attempt asks and tells while it runs. */
export interface AttemptOwner {
  /** The provider's headers, whatever the status. */
  onHeaders(status: number, headers: RequestHeaders): void;
  /** An answer that is an error: true passes it on, false leaves it for another attempt. */
  passesOn(failure: AttemptFailure): boolean;
  /** The headers for the caller, of an answer that is passed on now. */
  headersFor(status: number, headers: RequestHeaders): RequestHeaders;
  /** The caller gets it: from now on there is no other attempt. */
  onCommit(status: number): void;
  onEnd(end: AttemptEnd): void;
}

export interface AttemptEnd {
  readonly committed: boolean;
  /** Undefined when the answer, of whatever status, was passed on whole. */
  readonly failure: AttemptFailure | undefined;
  /** The provider's; 0 when it gave none. */
  readonly status: number;
  /** Of an answer that is an error, as far as it was held. */
  readonly errorBody: Buffer;
  readonly facts: AnswerFacts;
  readonly estimatedOutputTokens: number;
  /** From the start; 0 when none came. */
  readonly firstByteMs: number;
  /** The connection had been closed while it idled, and the request was not worked on. */
  readonly stale: boolean;
}

/** An error's body that nobody reads is read to its end up to here, so that the connection can be used again. */
const MAX_SKIPPED_BYTES = 65_536;
const MAX_EVENT_BYTES = 8_388_608;
/** A request on a kept connection that is lost later than this was not lost to the end of the connection's idling. */
const STALE_MS = 2_000;
/** An error's body that stands still is judged by what has come. */
const ERROR_BODY_MS = 5_000;

const NOTHING = Buffer.alloc(0);

export class Attempt extends Timer implements RelayHandlers {
  readonly #options: AttemptOptions;
  readonly #owner: AttemptOwner;
  readonly #clocks: AttemptClocks;
  readonly #relay: Relay;
  #status = 0;
  #headers: RequestHeaders = {};
  #body: AnswerBody | undefined = undefined;
  /** Of an answer that is an error, until it is decided what becomes of it. */
  #error: ErrorBody | undefined = undefined;
  #errorSinceMs = 0;
  #errorBody: Buffer = NOTHING;
  #signs = 0;
  #firstByteMs = 0;
  #committed = false;
  /** Of a discarded answer. */
  #skippedBytes = -1;
  #over = false;

  constructor(options: AttemptOptions, owner: AttemptOwner) {
    super();
    this.#options = options;
    this.#owner = owner;
    this.#clocks = new AttemptClocks(options, options.facts.stream, options.clock());
    options.sink.onDrain = () => this.#resume();
    this.#relay = new Relay(options.request, this);
    this.#arm();
  }

  /** Closes the request to the provider at once; no `onEnd` follows. */
  abort(): AttemptEnd {
    const end = this.#endWith(undefined);
    this.#close();
    this.#relay.abort();
    return end;
  }

  /** Something of the answer has been given to the caller. */
  get committed(): boolean {
    return this.#committed;
  }

  /** The provider may be working on the request: it has it whole, and nothing of an answer has come. */
  get mayBeRunning(): boolean {
    return this.#relay.sent && this.#status < 400 && this.#body?.begun !== true;
  }

  /** What ends the answer when somebody else breaks it off; undefined where no event can stand. */
  errorEvent(reason: Reason, message: string): Buffer | undefined {
    return this.#body?.isEvents === true
      ? errorEvent(this.#options.facts.operation, reason, message)
      : undefined;
  }

  onConnected(): void {
    this.#clocks.connected = true;
    this.#arm();
  }

  onHead(status: number, headers: RequestHeaders): void {
    if (this.#over) return;
    this.#status = status;
    this.#headers = headers;
    this.#clocks.connected = true;
    this.#owner.onHeaders(status, headers);
    if (status < 400) {
      this.#body = this.#bodyOf(headers);
      const { isEvents } = this.#body;
      const clocks = this.#clocks;
      if (isEvents && !this.#options.resend) clocks.headAtMs = this.#options.clock();
      const changes = isEvents || clocks.isStream;
      clocks.isStream = isEvents;
      if (changes) this.#arm();
      return;
    }
    this.#options.life.aliveMs = this.#options.clock();
    if (isReadable(headers)) {
      this.#error = new ErrorBody();
      this.#errorSinceMs = this.#options.life.aliveMs;
      this.#arm();
    } else {
      this.#decide(NOTHING);
    }
  }

  /** The answer is an error: the caller gets it, or somebody else is asked. */
  #decide(body: Buffer): void {
    this.#error = undefined;
    this.#errorBody = body;
    const failure = this.#failureOf('status', { outOfCredit: billingCode(this.#status, body) });
    if (this.#owner.passesOn(failure)) {
      this.#body = new RawBody(this.#options.maxAnswerBytes);
      this.#commit();
      if (body.length > 0) this.onData(body);
      return;
    }
    this.#skippedBytes = 0;
    this.#finish(failure);
  }

  onData(chunk: Buffer): void {
    if (this.#skippedBytes >= 0) {
      this.#skippedBytes += chunk.length;
      if (this.#skippedBytes > MAX_SKIPPED_BYTES) this.#relay.abort();
      return;
    }
    if (this.#error !== undefined) {
      if (!this.#error.push(chunk)) this.#decide(this.#error.bytes());
      return;
    }
    const body = this.#body;
    if (this.#over || body === undefined) return;
    const fault = body.push(chunk, this.#forward);
    if (body.signs !== this.#signs) {
      const clocks = this.#clocks;
      this.#signs = body.signs;
      clocks.aliveMs = this.#options.clock();
      this.#options.life.aliveMs = clocks.aliveMs;
      if (this.#firstByteMs === 0) this.#firstByteMs = clocks.aliveMs - clocks.startedMs;
      if (!clocks.flowing && body.flowing) {
        clocks.flowing = true;
        this.#arm();
      }
    }
    if (fault !== undefined) this.#fail(fault);
  }

  onEnd(): void {
    if (this.#error !== undefined) this.#decide(this.#error.bytes());
    const body = this.#body;
    if (this.#over || body === undefined) return;
    const fault = body.end(this.#forward);
    if (fault !== undefined) {
      this.#fail(fault);
      return;
    }
    if (!this.#committed) this.#commit();
    this.#options.sink.end();
    this.#finish(undefined);
  }

  onError({ code, connected, reused }: RelayError): void {
    if (this.#error !== undefined) this.#decide(this.#error.bytes());
    if (this.#over) return;
    const answering = this.#status > 0 && (this.#firstByteMs > 0 || this.#committed);
    if (answering) {
      this.#fail(this.#body?.isEvents === true ? 'stream_cut' : 'answer_cut', { code });
    } else {
      const early = !this.#relay.sent || this.#options.clock() - this.#clocks.startedMs < STALE_MS;
      const stale = reused && early && this.#status === 0 && (code === 'ECONNRESET' || code === 'EPIPE');
      this.#fail(connected ? 'connection_lost' : 'connect_failed', { code, stale });
    }
  }

  onUnusable(what: string): void {
    if (this.#over) return;
    // A head that is too large belongs to an answer.
    const paid = this.#status > 0 || what.includes('HPE_HEADER_OVERFLOW');
    this.#error = undefined;
    this.#fail('upstream_protocol', { code: what, paid });
  }

  override onTimeout(nowMs: number): void {
    const clock = this.#clocks.next();
    const due = clock !== undefined && nowMs >= this.#clocks.atMs;
    if (this.#error !== undefined && (due || nowMs >= this.#errorSinceMs + ERROR_BODY_MS))
      this.#decide(this.#error.bytes());
    else if (!due) this.#arm();
    else if (clock === 'connect_timeout') this.#fail('connect_failed', { code: 'ETIMEDOUT' });
    else if (clock === 'first_byte_timeout') this.#fail('first_byte', { clock });
    else if (clock === 'idle_timeout') this.#fail('idle', { clock });
    else if ((clock === 'client' || clock === 'held_head') && this.#body !== undefined)
      this.#release(this.#body);
    else this.#fail('deadline', { clock });
  }

  /**
   * The client would give up, but the answer has a head: it gets what there is, and goes by its own clock. Without us it
   * would have had the head long ago.
   */
  #release(body: AnswerBody): void {
    this.#clocks.released = true;
    body.release(this.#forward);
    if (!this.#committed) this.#commit();
    this.#arm();
  }

  /** To the next of the clocks; signs of life move them without arming anew. */
  #arm(): void {
    if (this.#over) return;
    const { wheel } = this.#options;
    let atMs = this.#clocks.next() === undefined ? Number.POSITIVE_INFINITY : this.#clocks.atMs;
    if (this.#error !== undefined) atMs = Math.min(atMs, this.#errorSinceMs + ERROR_BODY_MS);
    if (Number.isFinite(atMs)) wheel.arm(this, atMs);
    else wheel.cancel(this);
  }

  #bodyOf(headers: RequestHeaders): AnswerBody {
    const { facts, maxAnswerBytes, stripUsage, maxOutputEvents } = this.#options;
    const { operation } = facts;
    const type = textOf(headers['content-type'])?.toLowerCase() ?? '';
    const encoding = textOf(headers['content-encoding']) ?? 'identity';
    // Encoded against our wish: it can't be read here.
    if (encoding !== 'identity' || this.#status >= 300) return new RawBody(maxAnswerBytes);
    if (type.startsWith('text/event-stream')) {
      const maxEventBytes = Math.min(maxAnswerBytes, MAX_EVENT_BYTES);
      return new EventsBody({ operation, maxEventBytes, stripUsage, maxOutputEvents }, maxAnswerBytes);
    }
    const isJson = traitsOf(operation).answersJson;
    return isJson && this.#options.request.method !== 'HEAD' && this.#status !== 204
      ? new JsonBody(maxAnswerBytes)
      : new RawBody(maxAnswerBytes);
  }

  readonly #forward = (bytes: Buffer): void => {
    if (!this.#committed) this.#commit();
    if (this.#options.sink.write(bytes) || this.#clocks.paused) return;
    this.#clocks.paused = true;
    this.#relay.pause();
  };

  #resume(): void {
    if (!this.#clocks.paused) return;
    this.#clocks.paused = false;
    // While the caller did not read the provider could show no life.
    this.#clocks.aliveMs = this.#options.clock();
    if (!this.armed) this.#arm();
    this.#relay.resume();
  }

  #commit(): void {
    this.#committed = true;
    this.#options.sink.head(this.#status, this.#owner.headersFor(this.#status, this.#headers));
    this.#owner.onCommit(this.#status);
  }

  #fail(reason: FailureReason, about: FailureDetails = {}): void {
    if (this.#over) return;
    const { sink, facts } = this.#options;
    const failure = this.#failureOf(reason, about);
    // Taken down first: breaking off may tell us that the caller is gone.
    const end = this.#endWith(failure, about.stale);
    this.#close();
    this.#relay.abort();
    if (this.#committed) {
      const body = this.#body;
      const told = body?.isEvents === true && !(reason === 'stream_cut' && body.facts.error);
      const name = reason === 'status' ? 'stream_cut' : reason;
      sink.breakOff(told ? errorEvent(facts.operation, name, failure.message) : undefined);
    }
    this.#owner.onEnd(end);
  }

  #finish(failure: AttemptFailure | undefined): void {
    const end = this.#endWith(failure);
    this.#close();
    this.#owner.onEnd(end);
  }

  #close(): void {
    this.#over = true;
    this.#options.wheel.cancel(this);
    this.#options.sink.onDrain = () => {};
  }

  #endWith(failure: AttemptFailure | undefined, stale = false): AttemptEnd {
    return {
      committed: this.#committed,
      failure,
      status: this.#status,
      errorBody: this.#errorBody,
      facts: this.#body?.facts ?? noFacts(),
      estimatedOutputTokens: this.#body?.estimatedOutputTokens ?? 0,
      firstByteMs: this.#firstByteMs,
      stale,
    };
  }

  #failureOf(reason: FailureReason, details: FailureDetails): AttemptFailure {
    return attemptFailure(reason, details, this.#options, this.#clocks, {
      status: this.#status,
      headers: this.#headers,
      sent: this.#relay.sent,
      mayBeRunning: this.mayBeRunning,
    });
  }
}
