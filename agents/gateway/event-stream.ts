import { once } from 'node:events';
import type { ServerResponse } from 'node:http';

/** A comment this often keeps proxies from taking a thinking agent for a dead connection. */
const heartbeatMs = 15_000;

/**
 * An answer as server-sent events (WHATWG HTML, 9.2). The head goes out with the first event, so that a task
 * that fails before it has said anything still gets the right HTTP status.
 */
export class EventStream {
  readonly #response: ServerResponse;
  readonly #heartbeat: NodeJS.Timeout;

  constructor(response: ServerResponse) {
    this.#response = response;
    this.#heartbeat = setInterval(() => {
      this.#open(200, {});
      response.write(': waiting\n\n');
    }, heartbeatMs);
  }

  /**
   * Sends an event. Resolves when the reader has room for the next one.
   *
   * @param signal gives up waiting for a reader who has left
   * @param head the status and headers, if this is the first event
   */
  async send(
    event: 'chunk' | 'done' | 'error',
    data: object,
    signal: AbortSignal,
    head: { status: number; headers: Record<string, string> } = { status: 200, headers: {} },
  ): Promise<void> {
    this.#open(head.status, head.headers);
    const flowing = this.#response.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
    if (!flowing) await once(this.#response, 'drain', { signal });
  }

  end(): void {
    clearInterval(this.#heartbeat);
    this.#response.end();
  }

  #open(status: number, headers: Record<string, string>): void {
    if (this.#response.headersSent) return;
    this.#response.writeHead(status, {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache, no-transform',
      'x-accel-buffering': 'no',
      'x-content-type-options': 'nosniff',
      // A connection kept alive after its stream would hold up the gateway when it stops.
      connection: 'close',
      ...headers,
    });
  }
}
