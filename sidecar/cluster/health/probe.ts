/** Sends one health request to an endpoint, and asks for a sign of life when no answer arrives. */
import { Timer, type TimerWheel } from '../../clock/timer-wheel.ts';
import { readOnlyMessage } from '../../grpc/message-encoding.ts';
import { parseStatus, Status, type StatusCode, statusFromHttp } from '../../grpc/status.ts';
import type { Connection } from '../../http2/connection.ts';
import { ConnectionError, type StreamFailure } from '../../http2/errors.ts';
import { ErrorCode } from '../../http2/frame.ts';
import type { MessageHead } from '../../http2/head.ts';
import { HeaderList } from '../../http2/hpack/header-list.ts';
import type { Stream, StreamHandler } from '../../http2/streams.ts';
import type { ConnectionWaiter } from '../connection/pool-types.ts';
import type { Endpoint } from '../endpoint.ts';
import type { HealthRequest } from './health-request.ts';

/**
 * The result of one probe.
 * `serving`, `not_serving`: the endpoint's own health service answered so. `no_health_service`: it answers, but has none.
 * `busy`: its health service does not answer in time, but its HTTP/2 does. `turned_away`: it accepted no call at that
 * moment, or there was no room to wait for a connection. `unreachable`: nothing answers.
 */
export type ProbeResult =
  | 'serving'
  | 'not_serving'
  | 'no_health_service'
  | 'busy'
  | 'turned_away'
  | 'unreachable';

const MAX_ANSWER_BYTES = 1_024;

/**
 * Asks an endpoint once for its health. When the answer does not arrive in time, the probe asks its HTTP/2 for a sign of
 * life, which distinguishes a dead endpoint from a busy one: an agent whose few worker threads all wait for their model can't
 * answer a health call, and is as healthy as before. It sends no PING, because strict servers count PINGs while no data
 * moves, and close the connection with the very calls that keep the agent busy.
 */
export class HealthProbe extends Timer implements StreamHandler, ConnectionWaiter {
  private readonly endpoint: Pick<Endpoint, 'address' | 'pool'>;
  private readonly wheel: TimerWheel;
  private readonly timeoutMs: number;
  private readonly request: HealthRequest;
  private readonly onResult: (result: ProbeResult, status: StatusCode | undefined) => void;
  private stream: Stream | undefined = undefined;
  private connection: Connection | undefined = undefined;
  private body: Buffer = Buffer.alloc(0);
  /** The `grpc-encoding` of the answer: we announce none, but some servers compress anyway. */
  private encoding = '';
  private signRequested = false;
  private signRequestedAtMs = 0;
  private done = false;

  constructor(
    endpoint: Pick<Endpoint, 'address' | 'pool'>,
    wheel: TimerWheel,
    timeoutMs: number,
    request: HealthRequest,
    onResult: (result: ProbeResult, status: StatusCode | undefined) => void,
  ) {
    super();
    this.endpoint = endpoint;
    this.wheel = wheel;
    this.timeoutMs = timeoutMs;
    this.request = request;
    this.onResult = onResult;
  }

  start(nowMs: number): void {
    this.wheel.arm(this, nowMs + this.timeoutMs);
    const connection = this.endpoint.pool.acquire(this);
    if (connection !== undefined) this.onConnection(connection);
  }

  cancel(): void {
    if (!this.done) this.close();
  }

  onConnection(connection: Connection): void {
    this.connection = connection;
    const stream = connection.openStream(this);
    this.stream = stream;
    const fields = [':method', 'POST', ':scheme', connection.scheme, ':path', this.request.path];
    // The path of a Unix socket is not a valid authority.
    const authority = this.endpoint.address.startsWith('unix:') ? 'localhost' : this.endpoint.address;
    fields.push(':authority', authority, 'content-type', 'application/grpc', 'te', 'trailers');
    connection.sendHeaders(stream, new HeaderList(fields), undefined, false);
    const { request } = this.request;
    connection.sendData(stream, request, 0, request.length, true);
  }

  /** The endpoint has not sent a byte since the sign of life was requested: another probe would be useless. */
  get stillSilent(): boolean {
    const { connection } = this;
    return this.signRequested && !connection!.closed && connection!.lastReadAtMs < this.signRequestedAtMs;
  }

  /** Closes a silent connection that has no streams, so that the next probe tries a new one. @returns whether it did */
  giveUpConnection(): boolean {
    const connection = this.connection!;
    if (connection.streams.size > 0) return false;
    const message = 'no answer to a health check';
    connection.close(new ConnectionError('network', ErrorCode.NO_ERROR, message, 'health_check'));
    return true;
  }

  onNoConnection(reason: 'connect_failed' | 'pending_overflow'): void {
    this.finish(reason === 'connect_failed' ? 'unreachable' : 'turned_away');
  }

  override onTimeout(nowMs: number): void {
    // All streams may be in use: the connection can give a sign of life anyway.
    this.connection ??= this.endpoint.pool.connections.find(({ peer }) => peer.maxConcurrentStreams > 0);
    const { connection } = this;
    if (connection === undefined || connection.closed || this.signRequested) {
      this.finish('unreachable');
      return;
    }
    this.signRequested = true;
    this.signRequestedAtMs = nowMs;
    connection.control.requestSign(() => this.finish('busy'));
    this.wheel.arm(this, nowMs + this.timeoutMs);
  }

  onHeaders(_stream: Stream, list: HeaderList, head: MessageHead, endStream: boolean): void {
    const status = endStream ? list.getTrimmed('grpc-status') : undefined;
    if (head.kind === 'response') this.encoding = list.getTrimmed('grpc-encoding') ?? '';
    if (status === undefined) {
      // A web server answers, with or without a body.
      if (head.kind === 'response' && head.status > 200)
        this.finish('no_health_service', statusFromHttp(head.status));
      else if (endStream) this.finish('no_health_service');
    } else this.finish(this.resultOf(parseStatus(status)), parseStatus(status));
  }

  private resultOf(status: StatusCode): ProbeResult {
    if (status === Status.OK) {
      const message = readOnlyMessage(this.body, this.encoding, MAX_ANSWER_BYTES);
      if (typeof message === 'string') return 'no_health_service';
      return this.request.serves(message, 0, message.length) ? 'serving' : 'not_serving';
    }
    return status === Status.UNAVAILABLE ? 'not_serving' : 'no_health_service';
  }

  onData(_stream: Stream, buffer: Buffer, start: number, end: number): number {
    if (this.body.length + end - start > MAX_ANSWER_BYTES) this.finish('no_health_service');
    else this.body = Buffer.concat([this.body, buffer.subarray(start, end)]);
    return end - start;
  }

  onDataSent(): void {}

  onFailed(_stream: Stream, failure: StreamFailure): void {
    this.finish(failure.unprocessed ? 'turned_away' : 'unreachable');
  }

  private finish(result: ProbeResult, status?: StatusCode): void {
    if (this.done) return;
    this.close();
    this.onResult(result, status);
  }

  private close(): void {
    this.done = true;
    this.wheel.cancel(this);
    this.endpoint.pool.cancel(this);
    const { stream } = this;
    if (stream === undefined) return;
    // Do not reset a stream that has ended: servers count resets.
    if (stream.canSend || stream.canReceive) stream.connection.reset(stream, ErrorCode.CANCEL);
  }
}
