// One end of an HTTP/2 connection with hand-made frames, for tests that send what no library would.
import { connect, createServer, type Server, type Socket } from 'node:net';
import type { Test } from 'tap';
import { HpackDecoder } from '../../sidecar/http2/hpack/decoder.ts';
import { PATIENCE_MS } from './patience.ts';

type Teardown = Pick<Test, 'teardown'>;

export const frameType = {
  data: 0,
  headers: 1,
  priority: 2,
  rstStream: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;

export const flag = { ack: 1, endStream: 1, endHeaders: 4, padded: 8, priority: 32 } as const;

export const errorCode = {
  noError: 0,
  protocolError: 1,
  flowControlError: 3,
  streamClosed: 5,
  frameSizeError: 6,
  refusedStream: 7,
  cancel: 8,
  compressionError: 9,
  enhanceYourCalm: 11,
} as const;

export const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');
const nothing = Buffer.alloc(0);

export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly payload: Buffer;
}

export function frame(type: number, flags: number, streamId: number, payload: Buffer = nothing): Buffer {
  const header = Buffer.alloc(9);
  header.writeUIntBE(payload.length, 0, 3);
  header[3] = type;
  header[4] = flags;
  header.writeUInt32BE(streamId, 5);
  return Buffer.concat([header, payload]);
}

export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** SETTINGS from pairs of id and value. */
export function settings(...entries: readonly (readonly [id: number, value: number])[]): Buffer {
  const payload = Buffer.alloc(entries.length * 6);
  entries.forEach(([id, value], index) => {
    payload.writeUInt16BE(id, index * 6);
    payload.writeUInt32BE(value, index * 6 + 2);
  });
  return frame(frameType.settings, 0, 0, payload);
}

/** A header block of literals without indexing, which leave the peer's dynamic table unchanged. */
export function headerBlock(fields: readonly (readonly [name: string, value: string])[]): Buffer {
  return Buffer.concat(fields.flatMap(([name, value]) => [Buffer.from([0]), literal(name), literal(value)]));
}

function literal(text: string): Buffer {
  const bytes = Buffer.from(text, 'latin1');
  const length: number[] = [];
  if (bytes.length < 127) length.push(bytes.length);
  else {
    length.push(127);
    let rest = bytes.length - 127;
    for (; rest >= 128; rest >>>= 7) length.push((rest & 127) | 128);
    length.push(rest);
  }
  return Buffer.concat([Buffer.from(length), bytes]);
}

/** The fields of a gRPC request. */
export function grpcRequest(
  path: string,
  ...more: readonly (readonly [string, string])[]
): [string, string][] {
  return [
    [':method', 'POST'],
    [':scheme', 'http'],
    [':path', path],
    [':authority', 'upstream'],
    ['content-type', 'application/grpc'],
    ['te', 'trailers'],
    ...more.map(([name, value]): [string, string] => [name, value]),
  ];
}

/** A message with its gRPC prefix. */
export function grpcMessage(body: Buffer): Buffer {
  return Buffer.concat([Buffer.from([0]), uint32(body.length), body]);
}

export class H2Peer {
  readonly socket: Socket;
  readonly role: 'client' | 'server';
  /** Received frames, DATA without its payload; the first 10,000. */
  readonly frames: Frame[] = [];
  /** Received frames, by type. */
  readonly counts = new Map<number, number>();
  dataBytes = 0;
  closed = false;
  goaway: { lastStreamId: number; code: number; debug: string } | undefined = undefined;
  /** Called for each received frame, with the whole payload. */
  onFrame: ((frame: Frame) => void) | undefined = undefined;
  private readonly decoder = new HpackDecoder({ maxTableBytes: 4096, maxListBytes: 1_000_000 });
  private readonly waiters = new Set<() => void>();
  private reads = false;
  private roundTrips = 0;
  /** Bytes of DATA in the current chunk, including padding, by stream. */
  private readonly used = new Map<number, number>();
  private rest: Buffer = nothing;
  private block: Buffer = nothing;
  private prefaceLeft: number;

  constructor(socket: Socket, role: 'client' | 'server') {
    this.socket = socket;
    this.role = role;
    this.prefaceLeft = role === 'server' ? preface.length : 0;
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => this.read(chunk));
    socket.on('error', () => {});
    socket.on('close', () => {
      this.closed = true;
      this.wake();
    });
  }

  /** Connects a client that has sent its preface and SETTINGS. */
  static async connect(
    t: Teardown,
    port: number,
    first: Buffer = Buffer.concat([preface, settings()]),
  ): Promise<H2Peer> {
    const socket = connect({ port, host: '127.0.0.1' });
    t.teardown(() => socket.destroy());
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    const peer = new H2Peer(socket, 'client');
    peer.send(first);
    return peer;
  }

  /** Resolves once the bytes are sent, or can't be. */
  send(...parts: Buffer[]): Promise<void> {
    if (this.socket.destroyed) return Promise.resolve();
    return new Promise((resolve) => this.socket.write(Buffer.concat(parts), () => resolve()));
  }

  headers(
    streamId: number,
    fields: readonly (readonly [string, string])[],
    endStream = false,
  ): Promise<void> {
    const block = headerBlock(fields);
    const parts: Buffer[] = [];
    for (let at = 0; at === 0 || at < block.length; at += 16_384) {
      const type = at === 0 ? frameType.headers : frameType.continuation;
      const flags =
        (at + 16_384 >= block.length ? flag.endHeaders : 0) | (at === 0 && endStream ? flag.endStream : 0);
      parts.push(frame(type, flags, streamId, block.subarray(at, at + 16_384)));
    }
    return this.send(...parts);
  }

  data(streamId: number, body: Buffer, endStream = false): Promise<void> {
    return this.send(frame(frameType.data, endStream ? flag.endStream : 0, streamId, body));
  }

  windowUpdate(streamId: number, increment: number): Promise<void> {
    return this.send(frame(frameType.windowUpdate, 0, streamId, uint32(increment)));
  }

  reset(streamId: number, code: number): Promise<void> {
    return this.send(frame(frameType.rstStream, 0, streamId, uint32(code)));
  }

  /**
   * Answers SETTINGS and PING as required, and returns flow-control windows, for the connection and for each open
   * stream. With `reads` false it returns no window: the test acts as a reader that stops, or returns windows itself.
   */
  behave({ reads = true }: { reads?: boolean } = {}): this {
    this.reads = reads;
    const before = this.onFrame;
    this.onFrame = (received) => {
      if (received.type === frameType.settings && (received.flags & flag.ack) === 0)
        this.send(frame(frameType.settings, flag.ack, 0));
      if (received.type === frameType.ping && (received.flags & flag.ack) === 0)
        this.send(frame(frameType.ping, flag.ack, 0, received.payload));
      before?.(received);
    };
    return this;
  }

  /** Sends a PING and waits for its ACK: by then, all frames that the peer had sent before are here. */
  async roundTrip(): Promise<void> {
    const question = Buffer.alloc(8);
    question.writeUInt32BE(++this.roundTrips);
    let answered = false;
    const before = this.onFrame;
    this.onFrame = (received) => {
      before?.(received);
      const isPong = received.type === frameType.ping && (received.flags & flag.ack) !== 0;
      if (isPong && received.payload.equals(question)) answered = true;
    };
    await this.send(frame(frameType.ping, 0, 0, question));
    await this.until('the peer answers a PING', () => answered || this.closed);
    this.onFrame = before;
  }

  count(type: number): number {
    return this.counts.get(type) ?? 0;
  }

  /** Waits until `check` is true; checks whenever bytes arrive. Rejects after `limitMs`. */
  until(what: string, check: () => boolean, limitMs = PATIENCE_MS): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        if (!check()) return;
        clearTimeout(timer);
        this.waiters.delete(look);
        resolve();
      };
      const timer = setTimeout(() => {
        this.waiters.delete(look);
        reject(new Error(`timeout of ${limitMs} ms while waiting until ${what}; got ${this.summary()}`));
      }, limitMs);
      this.waiters.add(look);
      look();
    });
  }

  /** A one-line summary of the received frames, for a message. */
  summary(): string {
    const counts = [...this.counts].map(([type, count]) => `type ${type}: ${count}`).join(', ');
    const goaway = this.goaway === undefined ? 'no GOAWAY' : `GOAWAY ${JSON.stringify(this.goaway)}`;
    return `frames ${counts || 'none'}; ${goaway}; ${this.closed ? 'closed' : 'open'}`;
  }

  /** The decoded fields of each received HEADERS frame, by stream. */
  readonly heads = new Map<number, [string, string][][]>();
  /** The error code of each reset stream. */
  readonly resets = new Map<number, number>();
  /** Streams that ended with END_STREAM. */
  readonly ended = new Set<number>();

  private read(chunk: Buffer): void {
    let buffer = this.rest.length === 0 ? chunk : Buffer.concat([this.rest, chunk]);
    if (this.prefaceLeft > 0) {
      if (buffer.length < preface.length) {
        this.rest = buffer;
        return;
      }
      buffer = buffer.subarray(preface.length);
      this.prefaceLeft = 0;
    }
    while (buffer.length >= 9) {
      const end = 9 + buffer.readUIntBE(0, 3);
      if (buffer.length < end) break;
      const received: Frame = {
        type: buffer[3]!,
        flags: buffer[4]!,
        streamId: buffer.readUInt32BE(5) & 0x7fffffff,
        payload: buffer.subarray(9, end),
      };
      buffer = buffer.subarray(end);
      this.take(received);
    }
    this.rest = buffer;
    this.giveBack();
    this.wake();
  }

  /** Once a chunk, so that streams that ended within it cost no frame. */
  private giveBack(): void {
    if (this.used.size === 0) return;
    const updates: Buffer[] = [];
    const give = (streamId: number, bytes: number): unknown =>
      updates.push(frame(frameType.windowUpdate, 0, streamId, uint32(bytes)));
    let total = 0;
    for (const [streamId, bytes] of this.used) {
      total += bytes;
      if (!this.ended.has(streamId) && !this.resets.has(streamId)) give(streamId, bytes);
    }
    give(0, total);
    this.used.clear();
    this.send(...updates);
  }

  private take(received: Frame): void {
    const { type, flags, streamId, payload } = received;
    this.counts.set(type, this.count(type) + 1);
    if (this.frames.length < 10_000)
      this.frames.push(type === frameType.data ? { ...received, payload: nothing } : received);
    if (type === frameType.data) {
      this.dataBytes += payload.length;
      if (this.reads && payload.length > 0)
        this.used.set(streamId, (this.used.get(streamId) ?? 0) + payload.length);
    }
    if (type === frameType.headers || type === frameType.continuation) {
      this.block = type === frameType.headers ? payload : Buffer.concat([this.block, payload]);
      if ((flags & flag.endHeaders) !== 0) this.takeHeaders(streamId, this.block);
    }
    if (type === frameType.rstStream) this.resets.set(streamId, payload.readUInt32BE());
    if ((type === frameType.headers || type === frameType.data) && (flags & flag.endStream) !== 0)
      this.ended.add(streamId);
    if (type === frameType.goaway) {
      this.goaway = {
        lastStreamId: payload.readUInt32BE(0),
        code: payload.readUInt32BE(4),
        debug: payload.toString('latin1', 8),
      };
    }
    this.onFrame?.(received);
  }

  /** The sidecar sends no padding and no priorities. */
  private takeHeaders(streamId: number, block: Buffer): void {
    const list = this.decoder.decode(block, 0, block.length);
    const fields: [string, string][] = [];
    if (list !== undefined)
      for (let i = 0; i < list.fields.length; i += 2) fields.push([list.fields[i]!, list.fields[i + 1]!]);
    const heads = this.heads.get(streamId) ?? [];
    heads.push(fields);
    this.heads.set(streamId, heads);
  }

  /** A field of the last HEADERS frame of a stream. */
  field(streamId: number, name: string): string | undefined {
    return this.heads
      .get(streamId)
      ?.at(-1)
      ?.find(([candidate]) => candidate === name)?.[1];
  }

  private wake(): void {
    for (const look of [...this.waiters]) look();
  }
}

export interface H2PeerServer {
  readonly port: number;
  readonly address: string;
  readonly peers: readonly H2Peer[];
  readonly server: Server;
}

/** Accepts connections as an HTTP/2 server; the test makes its frames. */
export async function startPeerServer(t: Teardown, onPeer: (peer: H2Peer) => void): Promise<H2PeerServer> {
  const peers: H2Peer[] = [];
  const server = createServer({ noDelay: true }, (socket) => {
    const peer = new H2Peer(socket, 'server');
    peers.push(peer);
    onPeer(peer);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    for (const { socket } of peers) socket.destroy();
    server.close();
  });
  const bound = server.address();
  if (bound === null || typeof bound === 'string') throw new Error('the peer server has no port');
  return { port: bound.port, address: `127.0.0.1:${bound.port}`, peers, server };
}
