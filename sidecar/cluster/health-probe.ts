import { Timer, type TimerWheel } from '../clock/timer-wheel.ts';
import { parseStatus, Status, type StatusCode } from '../grpc/status.ts';
import type { Connection } from '../http2/connection.ts';
import { ErrorCode } from '../http2/frame.ts';
import type { MessageHead } from '../http2/head.ts';
import { HeaderList } from '../http2/hpack/header-list.ts';
import type { Stream, StreamHandler } from '../http2/streams.ts';
import { readServingStatus, ServingStatus, writeHealthRequest } from '../task/health-message.ts';
import type { ConnectionWaiter } from './connection-pool.ts';
import type { Endpoint } from './endpoint.ts';

/**
 * What one probe found.
 * `serving`, `not_serving`: the endpoint's own `grpc.health.v1` said so. `no_health_service`: it answers, but has
 * none. `busy`: its health service does not answer in time, but its HTTP/2 does. `unreachable`: nothing answers.
 */
export type ProbeResult = 'serving' | 'not_serving' | 'no_health_service' | 'busy' | 'unreachable';

const MAX_ANSWER_BYTES = 1_024;

/**
 * One `grpc.health.v1.Health/Check` of an endpoint. When the answer does not come in time its HTTP/2 is asked for a
 * sign of life, which tells a dead endpoint from a busy one: an agent whose few worker threads all wait for their
 * model can't answer a health call, and is exactly as healthy as before. That is not asked by a PING, because strict
 * servers count those while no data moves, and end the connection with the very calls the agent is busy with.
 */
export class HealthProbe extends Timer implements StreamHandler, ConnectionWaiter {
  private readonly endpoint: Endpoint;
  private readonly wheel: TimerWheel;
  private readonly timeoutMs: number;
  private readonly onResult: (result: ProbeResult) => void;
  private stream: Stream | undefined = undefined;
  private connection: Connection | undefined = undefined;
  private body: Buffer = Buffer.alloc(0);
  private asked = false;
  private askedAtMs = 0;
  private done = false;

  constructor(
    endpoint: Endpoint,
    wheel: TimerWheel,
    timeoutMs: number,
    onResult: (result: ProbeResult) => void,
  ) {
    super();
    this.endpoint = endpoint;
    this.wheel = wheel;
    this.timeoutMs = timeoutMs;
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
    const fields = [':method', 'POST', ':scheme', 'http', ':path', '/grpc.health.v1.Health/Check'];
    // A socket's path is no authority.
    const authority = this.endpoint.address.startsWith('unix:') ? 'localhost' : this.endpoint.address;
    fields.push(':authority', authority, 'content-type', 'application/grpc', 'te', 'trailers');
    connection.sendHeaders(stream, new HeaderList(fields), undefined, false);
    const request = writeHealthRequest('');
    connection.sendData(stream, request, 0, request.length, true);
  }

  /** The endpoint was asked, and has not sent a byte since: there is no use in asking again yet. */
  get stillSilent(): boolean {
    const { connection } = this;
    return this.asked && !connection!.closed && connection!.lastReadAtMs < this.askedAtMs;
  }

  onNoConnection(): void {
    this.finish('unreachable');
  }

  override onTimeout(nowMs: number): void {
    const { connection } = this;
    if (connection === undefined || connection.closed || this.asked) {
      this.finish('unreachable');
      return;
    }
    this.asked = true;
    this.askedAtMs = nowMs;
    connection.control.askForSign(() => this.finish('busy'));
    this.wheel.arm(this, nowMs + this.timeoutMs);
  }

  onHeaders(_stream: Stream, list: HeaderList, head: MessageHead, endStream: boolean): void {
    if (!endStream) {
      if (head.kind === 'response' && head.status !== 200) this.finish('no_health_service');
      return;
    }
    const status = list.get('grpc-status');
    if (status === undefined) this.finish('no_health_service');
    else this.finish(this.resultOf(parseStatus(status)));
  }

  private resultOf(status: StatusCode): ProbeResult {
    if (status === Status.OK && this.body.length >= 5) {
      const serving = readServingStatus(this.body, 5, this.body.length);
      return serving === ServingStatus.SERVING ? 'serving' : 'not_serving';
    }
    return status === Status.UNAVAILABLE ? 'not_serving' : 'no_health_service';
  }

  onData(_stream: Stream, buffer: Buffer, start: number, end: number): number {
    if (this.body.length + end - start > MAX_ANSWER_BYTES) this.finish('no_health_service');
    else this.body = Buffer.concat([this.body, buffer.subarray(start, end)]);
    return end - start;
  }

  onDataSent(): void {}

  onFailed(): void {
    this.finish('unreachable');
  }

  private finish(result: ProbeResult): void {
    if (this.done) return;
    this.close();
    this.onResult(result);
  }

  private close(): void {
    this.done = true;
    this.wheel.cancel(this);
    this.endpoint.pool.cancel(this);
    const { stream } = this;
    if (stream === undefined) return;
    // An exchange that has ended needs no reset: servers count those.
    if (!stream.remoteEnded || !stream.localEnded) stream.connection.reset(stream, ErrorCode.CANCEL);
  }
}
