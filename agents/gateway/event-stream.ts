/** Writes an answer as server-sent events. */
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';

/** The interval of comments, which tell proxies that a connection with a slow agent is alive. */
const heartbeatMs = 15_000;

/**
 * An answer as server-sent events (WHATWG HTML, 9.2). The head goes out with the first event, so that a task that fails
 * before its first chunk still gets the right HTTP status.
 */
export class EventStream {
  private readonly response: ServerResponse;
  private readonly heartbeat: NodeJS.Timeout;
  private readonly reconnectMs: number | undefined;

  /** @param reconnectMs how long an EventSource waits before it connects again; its own time without one */
  constructor(response: ServerResponse, reconnectMs?: number) {
    this.response = response;
    this.reconnectMs = reconnectMs;
    this.heartbeat = setInterval(() => {
      this.open(200, {});
      response.write(': waiting\n\n');
    }, heartbeatMs);
  }

  /**
   * Sends an event. Resolves when the reader can take the next one.
   *
   * @param signal stops waiting for a reader that has disconnected
   * @param head the status and headers, for the first event; and an id by which a client resumes
   */
  async send(
    event: 'chunk' | 'done' | 'error' | 'run' | 'state',
    data: object,
    signal: AbortSignal,
    head: { status?: number; headers?: Record<string, string>; id?: number } = {},
  ): Promise<void> {
    this.open(head.status ?? 200, head.headers ?? {});
    const id = head.id === undefined ? '' : `id: ${head.id}\n`;
    const flowing = this.response.write(`event: ${event}\n${id}data: ${JSON.stringify(data)}\n\n`);
    if (!flowing) await once(this.response, 'drain', { signal });
  }

  end(): void {
    clearInterval(this.heartbeat);
    this.response.end();
  }

  private open(status: number, headers: Record<string, string>): void {
    if (this.response.headersSent) return;
    this.response.writeHead(status, {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache, no-transform',
      'x-accel-buffering': 'no',
      'x-content-type-options': 'nosniff',
      // A connection kept alive after its stream would delay the gateway's shutdown.
      connection: 'close',
      ...headers,
    });
    if (this.reconnectMs !== undefined) this.response.write(`retry: ${this.reconnectMs}\n\n`);
  }
}
