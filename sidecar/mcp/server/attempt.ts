/**
 * Sends one request to a server, and hands on its answer as it comes:
 *
 *     connecting ──▶ waiting ──head──▶ answering ──▶ over
 *         └─────────────┴──────────────────┴── failed, or aborted ──▶ over
 *
 * `sent` says whether the server may have received anything: from the connection on it counts as sent.
 */
import { type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { Timer, type TimerWheel } from '../../clock/timer-wheel.ts';
import { type Arrows, step } from '../../errors/illegal-step.ts';
import { readKeepAlive } from '../../llm/relay/kept-sockets.ts';
import type { HttpHeaders } from '../../llm/shared/headers.ts';
import { failureText, type McpFailure } from './failure.ts';

export type AttemptState = 'connecting' | 'waiting' | 'answering' | 'over';

export const ATTEMPT_ARROWS: Arrows<AttemptState> = {
  connecting: ['waiting', 'over'],
  waiting: ['answering', 'over'],
  answering: ['over'],
  over: [],
};

/** Receives what comes of an attempt. After `onEnd` or `onFailure` nothing follows. */
export interface AttemptOwner {
  onHead(status: number, headers: IncomingMessage['headers']): void;
  onData(chunk: Buffer): void;
  /** The answer is whole. */
  onEnd(): void;
  onFailure(failure: McpFailure): void;
}

export interface AttemptTarget {
  readonly agent: import('node:http').Agent;
  readonly protocol: 'http:' | 'https:';
  readonly hostname: string;
  readonly port: number;
}

/** Durations in milliseconds, 0 is off; `endAtMs` by the sidecar's clock. */
export interface AttemptLimits {
  readonly connectTimeoutMs: number;
  readonly firstByteTimeoutMs: number;
  readonly idleTimeoutMs: number;
  /** Until the head of a stream, or the end of a plain answer; Infinity for none. */
  readonly timeoutAtMs: number;
  /** The deadline of the call that the request is for; Infinity for none. */
  readonly deadlineMs: number;
}

export interface AttemptRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: HttpHeaders;
  /** Undefined for a request without one. */
  readonly body: Buffer | undefined;
}

export class Attempt extends Timer {
  /** The server may have received the request, or a part of it. */
  sent = false;
  private state: AttemptState = 'connecting';
  private readonly owner: AttemptOwner;
  private readonly limits: AttemptLimits;
  private readonly wheel: TimerWheel;
  private readonly clock: () => number;
  private readonly startedMs: number;
  private readonly request: ClientRequest;
  private response: IncomingMessage | undefined = undefined;
  private isStream = false;
  private isPaused = false;
  private aliveMs: number;
  /** The bytes that are left of an answer with a length; undefined without one. */
  private leftBytes: number | undefined = undefined;
  /** When the timer fires; it is armed anew only for an earlier time, and looks at the clocks when it fires. */
  private armedAtMs = Number.POSITIVE_INFINITY;

  constructor(
    target: AttemptTarget,
    { method, path, headers, body }: AttemptRequest,
    limits: AttemptLimits,
    { wheel, clock }: { readonly wheel: TimerWheel; readonly clock: () => number },
    owner: AttemptOwner,
  ) {
    super();
    this.owner = owner;
    this.limits = limits;
    this.wheel = wheel;
    this.clock = clock;
    this.startedMs = clock();
    this.aliveMs = this.startedMs;
    const isTls = target.protocol === 'https:';
    const send = isTls ? httpsRequest : httpRequest;
    const { agent, hostname, port, protocol } = target;
    // Fields as a list are written at once; Node keeps those of an object for a later change.
    const fields = fieldsOf(target, headers, body);
    const options = { agent, protocol, hostname, port, method, path, headers: fields };
    // Without TLS no name of the server is needed, and Node would work it out for each request.
    this.request = send(isTls ? options : { ...options, servername: '' });
    this.request.on('socket', (socket) => {
      if (this.request.reusedSocket) this.connected();
      else socket.once(isTls ? 'secureConnect' : 'connect', () => this.connected());
    });
    this.request.on('response', (response) => this.onResponse(response));
    this.request.on('error', (error) => this.failed(error));
    this.request.end(body);
    this.arm();
  }

  /** Stops reading, because the agent does not take more. */
  pause(): void {
    this.isPaused = true;
    this.response?.pause();
    this.arm();
  }

  resume(): void {
    this.isPaused = false;
    this.aliveMs = this.clock();
    this.response?.resume();
    this.arm();
  }

  /** Closes the request; its owner hears no more. */
  abort(): void {
    if (this.state === 'over') return;
    this.finish();
    this.request.destroy();
  }

  override onTimeout(nowMs: number): void {
    const { limits } = this;
    this.armedAtMs = Number.POSITIVE_INFINITY;
    if (nowMs < this.dueAtMs) {
      this.arm();
      return;
    }
    const failure = this.isConnecting
      ? this.isOver(limits.connectTimeoutMs, nowMs)
        ? 'connect_failed'
        : 'deadline'
      : nowMs >= Math.min(limits.timeoutAtMs, limits.deadlineMs)
        ? 'deadline'
        : this.state === 'answering'
          ? 'idle'
          : 'first_byte';
    this.fail({ reason: failure, sent: this.sent, why: failureText(failure) });
  }

  private get isConnecting(): boolean {
    return this.state === 'connecting';
  }

  private isOver(ms: number, nowMs: number): boolean {
    return ms > 0 && nowMs >= this.startedMs + ms;
  }

  /** When the clock is over that is over first; Infinity while none runs. */
  private get dueAtMs(): number {
    const { limits, startedMs, state } = this;
    let atMs = this.isStream ? limits.deadlineMs : Math.min(limits.deadlineMs, limits.timeoutAtMs);
    if (state === 'connecting') atMs = Math.min(atMs, after(limits.connectTimeoutMs, startedMs));
    if (state === 'connecting' || state === 'waiting')
      atMs = Math.min(atMs, after(limits.firstByteTimeoutMs, startedMs));
    if (state === 'answering' && !this.isPaused)
      atMs = Math.min(atMs, after(limits.idleTimeoutMs, this.aliveMs));
    return atMs;
  }

  private arm(): void {
    const atMs = this.dueAtMs;
    if (atMs >= this.armedAtMs) return;
    this.armedAtMs = atMs;
    this.wheel.arm(this, atMs);
  }

  private connected(): void {
    if (this.state !== 'connecting') return;
    this.sent = true;
    this.become('waiting');
    this.arm();
  }

  private onResponse(response: IncomingMessage): void {
    if (this.state === 'over') {
      response.destroy();
      return;
    }
    this.connected();
    this.become('answering');
    this.response = response;
    const { statusCode = 0, headers, socket } = response;
    if (headers['keep-alive'] !== undefined) readKeepAlive(socket, response.rawHeaders);
    this.leftBytes = lengthOf(headers);
    this.isStream = headers['content-type']?.startsWith('text/event-stream') === true;
    this.aliveMs = this.clock();
    this.arm();
    response.on('data', (chunk: Buffer) => {
      if (this.state === 'over') return;
      this.aliveMs = this.clock();
      this.armIdle();
      this.owner.onData(chunk);
      if (this.leftBytes === undefined) return;
      this.leftBytes -= chunk.length;
      // The rest of its end is Node's: the owner need not wait for it.
      if (this.leftBytes === 0) this.ended();
    });
    // Node ends an answer without a length at the end of its connection; one that is cut has no `end`.
    response.on('end', () => this.ended());
    response.on('error', (error) => this.failed(error));
    this.owner.onHead(statusCode, headers);
  }

  private ended(): void {
    if (this.state === 'over') return;
    this.finish();
    // A paused answer would keep its connection.
    if (this.isPaused) this.response?.resume();
    this.owner.onEnd();
  }

  private armIdle(): void {
    if (this.limits.idleTimeoutMs > 0) this.arm();
  }

  private failed(error: Error): void {
    const reason = this.isConnecting
      ? 'connect_failed'
      : this.state === 'answering'
        ? 'answer_cut'
        : isProtocolError(error)
          ? 'upstream_protocol'
          : 'connection_lost';
    const { code = '' } = error as NodeJS.ErrnoException;
    this.fail({ reason, sent: this.sent, why: failureText(reason, code) });
  }

  private fail(failure: McpFailure): void {
    if (this.state === 'over') return;
    this.finish();
    this.request.destroy();
    this.owner.onFailure(failure);
  }

  private finish(): void {
    this.become('over');
    this.wheel.cancel(this);
  }

  private become(state: AttemptState): void {
    this.state = step(ATTEMPT_ARROWS, this.state, state);
  }
}

function after(ms: number, sinceMs: number): number {
  return ms > 0 ? sinceMs + ms : Number.POSITIVE_INFINITY;
}

/** The length of an answer's body; undefined where its end is not known by a length. */
function lengthOf(headers: IncomingMessage['headers']): number | undefined {
  const text = headers['content-length'];
  return text === undefined || headers['transfer-encoding'] !== undefined ? undefined : Number(text);
}

/** Names and values in turns. */
function fieldsOf(
  { protocol, hostname, port }: AttemptTarget,
  headers: HttpHeaders,
  body: Buffer | undefined,
): string[] {
  const fields: string[] = [];
  for (const name in headers) {
    const value = headers[name]!;
    if (typeof value === 'string') fields.push(name, value);
    else for (const one of value) fields.push(name, one);
  }
  if (headers['host'] === undefined) {
    const host = hostname.includes(':') ? `[${hostname}]` : hostname;
    fields.push('host', port === (protocol === 'https:' ? 443 : 80) ? host : `${host}:${port}`);
  }
  if (body !== undefined) fields.push('content-length', String(body.length));
  return fields;
}

function isProtocolError(error: Error): boolean {
  return (error as NodeJS.ErrnoException).code?.startsWith('HPE_') === true;
}
