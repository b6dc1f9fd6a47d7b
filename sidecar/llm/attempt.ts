/**
 * One try of a request at one upstream: its clocks, and its answer's way to the caller.
 *
 *     connecting ──▶ waiting ──first byte──▶ flowing ──▶ over
 *      connect_failed  first_byte              idle, stream_cut, …
 *
 * Until the first byte that means something nothing is given to the caller, so that somebody else can be asked. From
 * then on the answer is committed: what goes wrong now breaks the caller's connection, after an error event where the
 * answer is a stream of events.
 */
import { Timer, type TimerWheel } from '../clock/timer-wheel.ts';
import { type AnswerBody, EventsBody, JsonBody, RawBody } from './answer-body.ts';
import { errorEvent, type Reason } from './reasons.ts';
import {
  Relay,
  type RelayError,
  type RelayHandlers,
  type RelayRequest,
  type RequestHeaders,
} from './relay.ts';
import { isCounted, type RequestFacts } from './request-facts.ts';
import type { AttemptFailure, FailureReason } from './retry.ts';
import { retryAfterMs, textOf } from './retry-after.ts';
import type { Sink } from './sink.ts';
import { type AnswerFacts, noFacts } from './usage.ts';

export interface AttemptOptions {
  readonly request: RelayRequest;
  readonly facts: RequestFacts;
  readonly sink: Sink;
  readonly wheel: TimerWheel;
  readonly clock: () => number;
  /** 0 is off. */
  readonly connectTimeoutMs: number;
  readonly firstByteTimeoutMs: number;
  readonly idleTimeoutMs: number;
  readonly deadlineMs: number;
  readonly maxAnswerBytes: number;
  readonly stripUsage: boolean;
  readonly maxOutputEvents: number;
  /** For messages: the upstream's name. */
  readonly upstream: string;
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

export class Attempt extends Timer implements RelayHandlers {
  readonly #options: AttemptOptions;
  readonly #owner: AttemptOwner;
  readonly #startedMs: number;
  readonly #relay: Relay;
  #connected = false;
  #status = 0;
  #headers: RequestHeaders = {};
  #body: AnswerBody | undefined = undefined;
  #signs = 0;
  #aliveMs: number;
  #firstByteMs = 0;
  #committed = false;
  #paused = false;
  /** Of a discarded answer. */
  #skippedBytes = -1;
  #over = false;

  constructor(options: AttemptOptions, owner: AttemptOwner) {
    super();
    this.#options = options;
    this.#owner = owner;
    this.#startedMs = options.clock();
    this.#aliveMs = this.#startedMs;
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

  /** What ends the answer when somebody else breaks it off; undefined where no event can stand. */
  errorEvent(reason: Reason, message: string): Buffer | undefined {
    return this.#body?.isEvents === true
      ? errorEvent(this.#options.facts.operation, reason, message)
      : undefined;
  }

  onConnected(): void {
    this.#connected = true;
    this.#arm();
  }

  onHead(status: number, headers: RequestHeaders): void {
    if (this.#over) return;
    this.#status = status;
    this.#headers = headers;
    this.#connected = true;
    this.#owner.onHeaders(status, headers);
    if (status < 400) {
      this.#body = this.#bodyOf(headers);
      return;
    }
    const failure = this.#failureOf('status');
    if (this.#owner.passesOn(failure)) {
      this.#body = new RawBody(this.#options.maxAnswerBytes);
      this.#commit();
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
    const body = this.#body;
    if (this.#over || body === undefined) return;
    const fault = body.push(chunk, this.#forward);
    if (body.signs !== this.#signs) {
      this.#signs = body.signs;
      this.#aliveMs = this.#options.clock();
      if (this.#firstByteMs === 0) {
        this.#firstByteMs = this.#aliveMs - this.#startedMs;
        this.#arm();
      }
    }
    if (fault !== undefined) this.#fail(fault);
  }

  onEnd(): void {
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
    if (this.#over) return;
    const answering = this.#status > 0 && (this.#firstByteMs > 0 || this.#committed);
    if (answering) {
      this.#fail(this.#body?.isEvents === true ? 'stream_cut' : 'answer_cut', code);
    } else {
      const stale = reused && this.#status === 0 && (code === 'ECONNRESET' || code === 'EPIPE');
      this.#fail(connected ? 'connection_lost' : 'connect_failed', code, stale);
    }
  }

  override onTimeout(nowMs: number): void {
    const { deadlineMs, firstByteTimeoutMs, idleTimeoutMs, connectTimeoutMs } = this.#options;
    if (nowMs >= deadlineMs) this.#fail('deadline');
    else if (!this.#connected && due(nowMs, this.#startedMs, connectTimeoutMs))
      this.#fail('connect_failed', 'ETIMEDOUT');
    else if (this.#firstByteMs === 0 && due(nowMs, this.#startedMs, firstByteTimeoutMs))
      this.#fail('first_byte');
    else if (this.#firstByteMs > 0 && !this.#paused && due(nowMs, this.#aliveMs, idleTimeoutMs))
      this.#fail('idle');
    else this.#arm();
  }

  /** To the next of the clocks; signs of life move them without arming anew. */
  #arm(): void {
    if (this.#over) return;
    const { clock, wheel, deadlineMs, firstByteTimeoutMs, idleTimeoutMs, connectTimeoutMs } = this.#options;
    let atMs = deadlineMs;
    if (!this.#connected && connectTimeoutMs > 0) atMs = Math.min(atMs, this.#startedMs + connectTimeoutMs);
    if (this.#firstByteMs === 0 && firstByteTimeoutMs > 0)
      atMs = Math.min(atMs, this.#startedMs + firstByteTimeoutMs);
    if (this.#firstByteMs > 0 && idleTimeoutMs > 0)
      atMs = Math.min(atMs, (this.#paused ? clock() : this.#aliveMs) + idleTimeoutMs);
    if (Number.isFinite(atMs)) wheel.arm(this, atMs);
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
    const isJson = type.startsWith('application/json') || isCounted(operation) || operation === 'models';
    return isJson && this.#options.request.method !== 'HEAD' && this.#status !== 204
      ? new JsonBody(maxAnswerBytes)
      : new RawBody(maxAnswerBytes);
  }

  readonly #forward = (bytes: Buffer): void => {
    if (!this.#committed) this.#commit();
    if (this.#options.sink.write(bytes) || this.#paused) return;
    this.#paused = true;
    this.#relay.pause();
  };

  #resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    // While the caller did not read the provider could show no life.
    this.#aliveMs = this.#options.clock();
    this.#relay.resume();
  }

  #commit(): void {
    this.#committed = true;
    this.#options.sink.head(this.#status, this.#owner.headersFor(this.#status, this.#headers));
    this.#owner.onCommit(this.#status);
  }

  #fail(reason: FailureReason, code = '', stale = false): void {
    if (this.#over) return;
    const { sink, facts } = this.#options;
    const failure = this.#failureOf(reason, code, stale);
    // Taken down first: breaking off may tell us that the caller is gone.
    const end = this.#endWith(failure, stale);
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
      facts: this.#body?.facts ?? noFacts(),
      estimatedOutputTokens: this.#body?.estimatedOutputTokens ?? 0,
      firstByteMs: this.#firstByteMs,
      stale,
    };
  }

  #failureOf(reason: FailureReason, code = '', stale = false): AttemptFailure {
    const status = this.#status;
    const told = textOf(this.#headers['x-should-retry']);
    return {
      reason,
      status,
      retryAfterMs: status >= 400 ? retryAfterMs(this.#headers, Date.now()) : undefined,
      shouldRetry: told === 'true' ? true : told === 'false' ? false : undefined,
      message: `${this.#options.upstream}: ${MESSAGES[reason](this.#options, status, code)}`,
      mayHaveCost: reason !== 'status' && reason !== 'connect_failed' && !stale,
    };
  }
}

function due(nowMs: number, sinceMs: number, limitMs: number): boolean {
  return limitMs > 0 && nowMs >= sinceMs + limitMs;
}

const MESSAGES: Readonly<
  Record<FailureReason, (options: AttemptOptions, status: number, code: string) => string>
> = {
  status: (_options, status) => `answered ${status}`,
  connect_failed: (_options, _status, code) =>
    `can not be connected to (${code}); check its url and the network`,
  connection_lost: (_options, _status, code) => `the connection was lost before an answer (${code})`,
  first_byte: ({ firstByteTimeoutMs }) =>
    `no first byte within ${firstByteTimeoutMs} ms (first_byte_timeout)`,
  idle: ({ idleTimeoutMs }) => `nothing for ${idleTimeoutMs} ms in the middle of the answer (idle_timeout)`,
  deadline: () => 'the time for the request is over (timeout, or the deadline of the call it belongs to)',
  stream_cut: () => 'the stream ended before its terminal marker; the answer is not complete',
  answer_cut: () => 'the answer broke off',
  malformed_answer: () => 'the answer is no JSON',
  answer_too_large: ({ maxAnswerBytes }) =>
    `the answer has more than ${maxAnswerBytes} bytes (max_answer_bytes)`,
  budget_exhausted: () => 'the answer has more tokens than the budget of the task lets it have',
  draining: () => 'the sidecar is shutting down and the answer did not end in time',
};
