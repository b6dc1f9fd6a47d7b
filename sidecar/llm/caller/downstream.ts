/** The agent's request and its response as the egress uses them: Node's own over HTTP/1.1, and what a listener makes over HTTP/2. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Readable, Writable } from 'node:stream';
import type { HttpHeaders } from '../shared/headers.ts';

/** Over HTTP/2 `headers` and `rawHeaders` have the pseudo-header fields, too. It emits `close` when nothing more comes. */
export type DownstreamRequest = Readable &
  Pick<
    IncomingMessage,
    'method' | 'url' | 'headers' | 'rawHeaders' | 'httpVersionMajor' | 'complete' | 'socket'
  >;

/** It emits `close` once the answer has left, or can't leave any more; `destroy` breaks it off so that no end is seen. */
export type DownstreamResponse = Writable &
  Pick<ServerResponse, 'statusCode' | 'headersSent' | 'flushHeaders'> & {
    /** The highest status that it can carry; without one any. */
    readonly maxStatus?: number;
    /** Has no effect on what is sent before the first bytes, `flushHeaders` or the end. */
    writeHead(status: number, headers: HttpHeaders): unknown;
    writeContinue(): void;
  };
