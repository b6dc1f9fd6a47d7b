import type { AppHealth } from '../cluster/app-health.ts';
import { READABLE_ENCODINGS, readOnlyMessage } from '../grpc/message-encoding.ts';
import { Status, type StatusCode } from '../grpc/status.ts';
import { encodeStatusMessage } from '../grpc/status-message.ts';
import type { MessageHead } from '../http2/head.ts';
import { HeaderList } from '../http2/hpack/header-list.ts';
import type { Stream, StreamHandler } from '../http2/streams.ts';
import {
  readHealthService,
  ServingStatus,
  writeAgentHealth,
  writeServingStatus,
} from '../task/health-message.ts';
import { AGENT_HEALTH_CHECK_PATH } from '../task/task-message.ts';
import type { ListenerStats } from '../telemetry/call-stats.ts';
import type { LocalServices } from './context.ts';

const CHECK_PATH = '/grpc.health.v1.Health/Check';
const WATCH_PATH = '/grpc.health.v1.Health/Watch';
const MAX_REQUEST_BYTES = 4_096;
/** Watchers beyond this are refused: each is a stream that stays. */
const MAX_WATCHERS = 256;

const RESPONSE_HEAD = new HeaderList([':status', '200', 'content-type', 'application/grpc']);
const OK_TRAILERS = new HeaderList(['grpc-status', '0']);

/** Who answers for the agent. */
export interface HealthIdentity {
  readonly name: string;
  readonly version: string;
}

/**
 * `grpc.health.v1.Health` and `agent.AgentService/HealthCheck`, answered by the inbound side from what it sees of
 * the app, so that an agent need implement neither.
 */
export class HealthServices implements LocalServices {
  private readonly app: AppHealth;
  private readonly stats: ListenerStats;
  private readonly watchers = new Set<HealthCall>();
  identity: HealthIdentity;
  private draining = false;

  constructor(app: AppHealth, stats: ListenerStats, identity: HealthIdentity) {
    this.app = app;
    this.stats = stats;
    this.identity = identity;
    app.onChange(() => this.tellWatchers());
  }

  get healthy(): boolean {
    return this.app.healthy && !this.draining;
  }

  drain(): void {
    this.draining = true;
    this.tellWatchers();
  }

  /** The sidecar goes: those who watch it shall watch another one. */
  endWatches(): void {
    for (const watcher of [...this.watchers]) watcher.end(Status.UNAVAILABLE, 'the sidecar is shutting down');
  }

  private tellWatchers(): void {
    for (const watcher of this.watchers) watcher.sendStatus(this.statusOf(watcher.service));
  }

  serve(stream: Stream, list: HeaderList, head: MessageHead, endStream: boolean): boolean {
    const { path } = head;
    if (path !== CHECK_PATH && path !== WATCH_PATH && path !== AGENT_HEALTH_CHECK_PATH) return false;
    const encoding = list.getTrimmed('grpc-encoding') ?? '';
    const call = new HealthCall(stream, (body) => this.answer(call, path, body, encoding));
    stream.handler = call;
    if (endStream) call.complete();
    return true;
  }

  private answer(call: HealthCall, path: string, body: Buffer, encoding: string): void {
    if (path === AGENT_HEALTH_CHECK_PATH) {
      call.sendMessage(writeAgentHealth(this.agentHealth()));
      call.end(Status.OK, '');
      return;
    }
    const request = readOnlyMessage(body, encoding, MAX_REQUEST_BYTES);
    if (request === 'unsupported' && encoding !== '' && encoding !== 'identity') {
      const known = READABLE_ENCODINGS.join(', ');
      call.end(
        Status.UNIMPLEMENTED,
        `${encoding} can't be read here; compress it by ${known}, or not at all`,
      );
      return;
    }
    if (typeof request === 'string') {
      call.end(Status.INVALID_ARGUMENT, 'send one grpc.health.v1.HealthCheckRequest');
      return;
    }
    call.service = readHealthService(request, 0, request.length);
    const status = this.statusOf(call.service);
    if (path === WATCH_PATH) {
      this.watch(call, status);
    } else if (status === ServingStatus.SERVICE_UNKNOWN) {
      call.end(Status.NOT_FOUND, `no such service; ask for "" or "agent.AgentService"`);
    } else {
      call.sendMessage(writeServingStatus(status));
      call.end(Status.OK, '');
    }
  }

  private watch(call: HealthCall, status: ServingStatus): void {
    if (this.watchers.size >= MAX_WATCHERS) {
      call.end(Status.RESOURCE_EXHAUSTED, `${MAX_WATCHERS} watchers already; use Check`);
      return;
    }
    this.watchers.add(call);
    call.onGone = () => this.watchers.delete(call);
    call.sendStatus(status);
  }

  /** Whether it knows about this service; another one is the app's own business. */
  answersFor(service: string): boolean {
    return service === '' || service === 'agent.AgentService' || service === this.identity.name;
  }

  private statusOf(service: string): ServingStatus {
    if (!this.answersFor(service)) return ServingStatus.SERVICE_UNKNOWN;
    return this.healthy ? ServingStatus.SERVING : ServingStatus.NOT_SERVING;
  }

  private agentHealth() {
    const { totalCalls, totalErrors } = this.stats;
    return {
      healthy: this.healthy,
      agentName: this.identity.name,
      version: this.identity.version,
      checks: {
        app: this.app.state,
        draining: String(this.draining),
        total_requests: String(totalCalls),
        total_errors: String(totalErrors),
        error_rate: (totalCalls === 0 ? 0 : totalErrors / totalCalls).toFixed(4),
      },
    };
  }
}

/** One call of these services: gathers the small request, then answers. */
class HealthCall implements StreamHandler {
  service = '';
  onGone: () => void = () => {};
  private readonly stream: Stream;
  private readonly onRequest: (body: Buffer) => void;
  private body: Buffer = Buffer.alloc(0);
  private started = false;
  private lastStatus = -1;

  constructor(stream: Stream, onRequest: (body: Buffer) => void) {
    this.stream = stream;
    this.onRequest = onRequest;
  }

  complete(): void {
    this.onRequest(this.body);
  }

  onHeaders(): void {
    this.complete();
  }

  onData(_stream: Stream, buffer: Buffer, start: number, end: number, endStream: boolean): number {
    if (this.stream.localEnded) return end - start;
    if (this.body.length + end - start > MAX_REQUEST_BYTES) {
      this.end(Status.RESOURCE_EXHAUSTED, `a health request has at most ${MAX_REQUEST_BYTES} bytes`);
      return end - start;
    }
    this.body = Buffer.concat([this.body, buffer.subarray(start, end)]);
    if (endStream) this.complete();
    return end - start;
  }

  onDataSent(): void {}

  onFailed(): void {
    this.onGone();
  }

  sendStatus(status: ServingStatus): void {
    if (status === this.lastStatus) return;
    this.lastStatus = status;
    this.sendMessage(writeServingStatus(status));
  }

  sendMessage(message: Buffer): void {
    const { stream } = this;
    if (!this.started) stream.connection.sendHeaders(stream, RESPONSE_HEAD, undefined, false);
    this.started = true;
    stream.connection.sendData(stream, message, 0, message.length, false);
  }

  end(status: StatusCode, message: string): void {
    const { stream } = this;
    if (status === Status.OK) stream.connection.sendHeaders(stream, OK_TRAILERS, undefined, true);
    else {
      const fields = ['grpc-status', String(status), 'grpc-message', encodeStatusMessage(message)];
      stream.connection.sendHeaders(stream, this.started ? new HeaderList([]) : RESPONSE_HEAD, fields, true);
    }
    stream.connection.stopReceiving(stream);
    this.onGone();
  }
}
