/**
 * Passes on what needs no care of its own: the stream of a server (GET), the end of a session (DELETE), and messages that
 * ask for no answer. What was not sent is sent again; what passes is read for changes of lists.
 */
import type { IncomingHttpHeaders } from 'node:http';
import { EventScanner } from '../llm/answer/event-scanner.ts';
import type { Reply } from '../llm/caller/reply.ts';
import type { HttpHeaders } from '../llm/shared/headers.ts';
import { refuse } from './answers.ts';
import { readEvent } from './message/events.ts';
import { messageOf } from './message/json-rpc.ts';
import { Attempt, type AttemptOwner } from './server/attempt.ts';
import type { McpFailure } from './server/failure.ts';
import type { McpContext } from './server/mcp-context.ts';
import { answerHeaders, type McpServer } from './server/mcp-server.ts';

export interface PassedRequest {
  readonly context: McpContext;
  readonly server: McpServer;
  readonly method: string;
  readonly headers: HttpHeaders;
  readonly body: Buffer | undefined;
  readonly reply: Reply;
  /** A message of the server has come whose answers somebody may wait for. */
  readonly onMessage: (json: unknown) => void;
  readonly onOver: () => void;
}

const MAX_REDIRECTS = 3;
const MAX_ATTEMPTS = 2;

export class Passing implements AttemptOwner {
  private readonly passed: PassedRequest;
  private attempt: Attempt | undefined = undefined;
  private attempts = 0;
  private redirects = 0;
  private scanner: EventScanner | undefined = undefined;
  private isStream = false;
  private isOver = false;

  constructor(passed: PassedRequest) {
    this.passed = passed;
  }

  start(): void {
    const { context, server, method, headers, body } = this.passed;
    const { connectTimeoutMs, timeoutMs } = context.settings;
    const isStream = method === 'GET';
    this.attempts++;
    this.attempt = new Attempt(
      server,
      { method, path: server.path, headers: server.headersOf(headers), body },
      {
        connectTimeoutMs,
        firstByteTimeoutMs: 0,
        // A stream is silent for as long as the server has nothing to say.
        idleTimeoutMs: 0,
        timeoutAtMs: timeoutMs > 0 && !isStream ? context.clock() + timeoutMs : Number.POSITIVE_INFINITY,
        deadlineMs: Number.POSITIVE_INFINITY,
      },
      context,
      this,
    );
  }

  onHead(status: number, headers: IncomingHttpHeaders): void {
    const { server, reply, context } = this.passed;
    if (
      (status === 307 || status === 308) &&
      this.redirects < MAX_REDIRECTS &&
      server.follows(headers.location)
    ) {
      this.redirects++;
      this.attempt?.abort();
      this.start();
      return;
    }
    const sent = answerHeaders(headers);
    const length = headers['content-length'];
    if (length !== undefined) sent['content-length'] = length;
    reply.onDrain = () => this.attempt?.resume();
    reply.head(status, sent);
    reply.flushHead();
    if (headers['content-type']?.startsWith('text/event-stream') !== true) return;
    this.isStream = true;
    context.stats.streams++;
    if ((headers['content-encoding'] ?? 'identity') === 'identity')
      this.scanner = new EventScanner(context.settings.limits.maxAnswerBytes);
  }

  onData(chunk: Buffer): void {
    this.scanner?.push(chunk, this);
    if (!this.passed.reply.write(chunk)) this.attempt?.pause();
  }

  /** An event of the stream is whole; its bytes have been passed on as they came. */
  onEvent(buffer: Buffer, start: number, end: number): void {
    const { json } = readEvent(buffer.toString('utf8', start, end));
    for (const one of Array.isArray(json) ? json : [json]) {
      const message = messageOf(one);
      if (message?.kind === 'notification') this.passed.server.notified(message.method);
      if (message?.kind === 'response') this.passed.onMessage(one);
    }
  }

  /** A larger event passes unread. */
  onPart(): void {}

  onEnd(): void {
    this.passed.reply.end();
    this.finish();
  }

  onFailure({ reason, sent, why }: McpFailure): void {
    const { reply } = this.passed;
    if (reply.status !== 0) reply.breakOff(undefined);
    else if (!sent && this.attempts < MAX_ATTEMPTS && !reply.gone) {
      this.start();
      return;
    } else refuse(reply, reason === 'status' ? 'upstream_failed' : reason, `${why}; try again later`);
    this.passed.server.lastError = why;
    this.finish();
  }

  /** The agent has left. */
  cancel(): void {
    this.attempt?.abort();
    this.finish();
  }

  endForDrain(): void {
    if (this.isOver) return;
    const { reply } = this.passed;
    this.attempt?.abort();
    if (reply.status === 0) refuse(reply, 'draining', 'the sidecar is shutting down; try again');
    else if (this.isStream) reply.end();
    else reply.breakOff(undefined);
    this.finish();
  }

  private finish(): void {
    if (this.isOver) return;
    this.isOver = true;
    if (this.isStream) this.passed.context.stats.streams--;
    this.passed.onOver();
  }
}
