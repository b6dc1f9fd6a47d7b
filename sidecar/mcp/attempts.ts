/** Makes the attempts of one exchange, one after the other, and settles each with the server's breaker and retry budget. */
import type { UpstreamAdmission } from '../llm/provider/upstream-breaker.ts';
import { limitsOf, maySendAgain, retryInMs } from './attempt-rules.ts';
import type { ExchangeParts } from './exchange-parts.ts';
import type { ExchangeReport } from './exchange-report.ts';
import { Attempt, type AttemptOwner } from './server/attempt.ts';
import type { McpFailure } from './server/failure.ts';

const MAX_REDIRECTS = 3;

export class Attempts {
  count = 0;
  private readonly parts: ExchangeParts;
  private readonly report: ExchangeReport;
  private readonly settings: ExchangeParts['context']['settings'];
  private readonly deadlineMs: number;
  private running: Attempt | undefined = undefined;
  private admission: UpstreamAdmission | undefined = undefined;
  private redirects = 0;
  /** It has a place in the retry budget. */
  private isRetry = false;

  constructor(parts: ExchangeParts, report: ExchangeReport, deadlineMs: number) {
    this.parts = parts;
    this.report = report;
    this.settings = parts.context.settings;
    this.deadlineMs = deadlineMs;
  }

  /** The server may have received the running attempt; false while none runs. */
  get sent(): boolean {
    return this.running?.sent === true;
  }

  get isRunning(): boolean {
    return this.running !== undefined;
  }

  /** For answers to the agent. */
  get headers(): Record<string, string> {
    return { 'outrigger-attempts': String(this.count) };
  }

  /** Begins an attempt; false when the breaker admits none. */
  begin(owner: AttemptOwner): boolean {
    const { server, request, context } = this.parts;
    this.admission = server.breaker.admit();
    if (this.admission === undefined) return false;
    this.count++;
    server.activeRequests++;
    const headers = server.headersOf(request.headers);
    this.report.attempt(this.count, headers);
    const sent = { method: 'POST', path: server.path, headers, body: request.body };
    this.running = new Attempt(
      server,
      sent,
      limitsOf(this.settings, request, this.deadlineMs),
      context,
      owner,
    );
    return true;
  }

  pause(): void {
    this.running?.pause();
  }

  resume(): void {
    this.running?.resume();
  }

  /** Ends the running attempt, if there is one. @param why for observers, and `lastError` of the server */
  end(verdict: 'success' | 'failure' | 'neutral', why: string, error = why): void {
    const { server } = this.parts;
    const { running } = this;
    if (running === undefined) return;
    this.running = undefined;
    running.abort();
    server.activeRequests--;
    this.releaseRetry();
    server.breaker.settle(this.admission!, verdict);
    if (verdict === 'failure') server.failed(error);
    else if (verdict === 'success') server.succeeded();
    this.report.attemptEnded(verdict === 'success' ? '' : why);
  }

  /** Whether to send the same again, because the server has moved within itself. The attempt is over then, and does not count. */
  follows(status: number, location: string | undefined): boolean {
    if ((status !== 307 && status !== 308) || this.redirects >= MAX_REDIRECTS) return false;
    if (!this.parts.server.follows(location)) return false;
    this.redirects++;
    this.count--;
    this.end('neutral', '');
    return true;
  }

  /**
   * Returns when another attempt may follow a failed one; undefined when none does.
   *
   * @param repeatable its requests may run twice
   * @param status of the answer; undefined without one
   */
  againAtMs(failure: McpFailure, repeatable: boolean, status: number | undefined): number | undefined {
    const { context, server } = this.parts;
    const { retry } = this.settings;
    if (this.count >= retry.maxAttempts || !maySendAgain(failure, repeatable, status)) return undefined;
    const nowMs = context.clock();
    const atMs = nowMs + retryInMs(retry.backoff, this.count, context.random());
    if (atMs >= this.deadlineMs || !server.retryBudget.tryAcquire(nowMs, server.activeRequests + 1))
      return undefined;
    this.isRetry = true;
    context.stats.retried(server.name);
    return atMs;
  }

  /** A retry that was allowed is over, or is not made after all. */
  releaseRetry(): void {
    if (this.isRetry) this.parts.server.retryBudget.release();
    this.isRetry = false;
  }
}
