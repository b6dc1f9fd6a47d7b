/** Writes an answer to a bare socket: the refusal of a WebSocket's handshake. */
import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import type { HttpHeaders } from '../shared/headers.ts';
import { ignore } from '../shared/short-lived.ts';
import type { Sink } from './sink.ts';

/** How long the peer of a socket that we have ended may take to close it. */
export const LAST_BYTES_MS = 5_000;

export class SocketSink implements Sink {
  private readonly socket: Socket;
  onDrain: () => void = ignore;

  constructor(socket: Socket) {
    this.socket = socket;
  }

  head(status: number, headers: HttpHeaders): void {
    this.socket.write(
      headText(status, STATUS_CODES[status] ?? '', { ...headers, connection: 'close' }),
      'latin1',
    );
  }

  flushHead(): void {}

  write(bytes: Buffer): boolean {
    return this.socket.write(bytes);
  }

  end(): void {
    endSoon(this.socket);
  }

  breakOff(): void {
    this.socket.destroy();
  }
}

/** Ends our side, drops what the peer still sends, and closes the connection soon. */
export function endSoon(socket: Socket): void {
  if (socket.destroyed) return;
  socket.end();
  socket.resume();
  socket.setTimeout(LAST_BYTES_MS, () => socket.destroy());
}

/** Returns the head of an answer as it stands on the wire. The values were headers before, so none has a line break. */
export function headText(status: number, reason: string, headers: HttpHeaders): string {
  let text = `HTTP/1.1 ${status} ${reason}\r\n`;
  for (const [name, value] of Object.entries(headers))
    for (const one of Array.isArray(value) ? value : [value]) text += `${name}: ${one}\r\n`;
  return `${text}\r\n`;
}
