/** Refuses peers that do not speak HTTP/2, with a clear message; an HTTP/1 client gets it in its own protocol. */
import { ConnectionError } from '../http2/errors.ts';
import type { ForeignClient } from '../http2/foreign.ts';
import { ErrorCode } from '../http2/frame.ts';

/** The part of a connection that a refusal needs. */
interface ForeignConnection {
  readonly socket: { write(text: string): unknown };
  readonly control: { sendPrefaceAndSettings(): void };
  fail(source: 'peer', code: number, message: string): void;
  close(error: ConnectionError): void;
}

/** Readable in a browser or with curl. */
const HTTP1_ANSWER = `HTTP/1.1 505 HTTP Version Not Supported\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\n\r\nThis port speaks gRPC: HTTP/2 with prior knowledge, not HTTP/1.1. Use a gRPC client (or curl --http2-prior-knowledge).\n`;

/** Closes a downstream connection that does not begin with the preface (RFC 9113 §3.4). */
export function refuseForeignClient(connection: ForeignConnection, looksLike: ForeignClient): void {
  if (looksLike === 'http1') {
    connection.socket.write(HTTP1_ANSWER);
    connection.close(
      new ConnectionError('peer', ErrorCode.PROTOCOL_ERROR, 'an HTTP/1 request on a gRPC port', 'http1'),
    );
    return;
  }
  // From these bytes a TLS client recognizes that this port does not speak TLS.
  connection.control.sendPrefaceAndSettings();
  if (looksLike === 'tls') {
    const message =
      'a TLS handshake on a plain text port; set inbound.tls here, or take tls off where it is called';
    connection.close(new ConnectionError('peer', ErrorCode.PROTOCOL_ERROR, message, 'tls_unexpected'));
    return;
  }
  connection.fail('peer', ErrorCode.PROTOCOL_ERROR, 'the connection does not begin with the HTTP/2 preface');
}

/** The number of a server's first bytes that we examine. */
const LOOK_BYTES = 512;
const SHOWN_CHARS = 80;
/** The first bytes of an alert and a handshake, of any version (RFC 8446 §5.1). */
const TLS_RECORDS = ['\x15\x03', '\x16\x03'];
/** The first line may arrive in pieces. */
const HTTP1_RESPONSE = /^HTTP/;
const HTML = /^\s*</;
const SSH = /^SSH-/;
/** Web servers answer plain text on their TLS port with such words, in HTTP/1. */
const WANTS_TLS = /https|\bssl\b|\btls\b/i;

const PLAIN_TO_TLS = 'set tls for its cluster, or give its plain text port';
const GRPC_PORT = 'gRPC needs HTTP/2: give the address of its gRPC port';

/** Closes an upstream connection whose first bytes are no HTTP/2 frame, and reports which protocol they belong to. */
export function refuseForeignServer(connection: ForeignConnection, begins: Buffer): void {
  const { reason, message } = describe(begins.toString('latin1', 0, Math.min(begins.length, LOOK_BYTES)));
  connection.close(new ConnectionError('peer', ErrorCode.PROTOCOL_ERROR, message, reason));
}

function describe(text: string): { reason: string; message: string } {
  if (TLS_RECORDS.includes(text.slice(0, 2)))
    return { reason: 'tls_wanted', message: `TLS server, spoken to in plain text; ${PLAIN_TO_TLS}` };
  const said = firstLine(text);
  if (HTTP1_RESPONSE.test(text) || HTML.test(text)) {
    if (WANTS_TLS.test(text))
      return {
        reason: 'tls_wanted',
        message: `HTTP/1 server that wants TLS; it answered ${said}: ${PLAIN_TO_TLS}`,
      };
    return { reason: 'http1', message: `HTTP/1 server; it answered ${said}, and ${GRPC_PORT}` };
  }
  const what = SSH.test(text) ? 'SSH server' : 'not an HTTP/2 server';
  return { reason: 'not_http2', message: `${what}; it began with ${said}, and ${GRPC_PORT}` };
}

function firstLine(text: string): string {
  const [line = ''] = text.trimStart().split(/[\r\n]/, 1);
  return JSON.stringify(line.slice(0, SHOWN_CHARS).replace(/[^\x20-\x7e]+/g, '.'));
}
