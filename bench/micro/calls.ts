// Measures the cost of a call in HTTP/2 alone, on either side: its stream, frames and heads, without sockets or a proxy.
import { Socket } from 'node:net';
import { Connection } from '../../sidecar/http2/connection.ts';
import type { ConnectionOwner } from '../../sidecar/http2/connection-owner.ts';
import { Flag, FrameType, PREFACE, writeFrameHeader, writeUint32 } from '../../sidecar/http2/frame.ts';
import { HpackEncoder } from '../../sidecar/http2/hpack/encoder.ts';
import { HeaderList } from '../../sidecar/http2/hpack/header-list.ts';
import { DEFAULT_LIMITS } from '../../sidecar/http2/limits.ts';
import type { Stream, StreamHandler } from '../../sidecar/http2/streams.ts';
import { measure } from './measure.ts';

const READ_INTERVAL_MS = 10;
/** Calls that one read brings. */
const CALLS = 16;
/** Stream ids begin again with a new connection before they run out. */
const LAST_ID = 0x7fff_0000;

const requestHead = new HeaderList([
  ':method',
  'POST',
  ':scheme',
  'http',
  ':path',
  '/a/b',
  ':authority',
  'a',
]);
const responseHead = new HeaderList([':status', '200', 'content-type', 'application/grpc']);
const trailers = new HeaderList(['grpc-status', '0']);
for (const list of [requestHead, responseHead, trailers]) list.shared = true;
const message = Buffer.alloc(130);

/** A socket that takes everything and keeps nothing. */
class Sink extends Socket {
  override write(): boolean {
    return true;
  }
}

function frame(type: number, flags: number, id: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(9);
  writeFrameHeader(head, 0, payload.length, type, flags, id);
  return Buffer.concat([head, payload]);
}

/** A block of literals, which needs no table. */
function block(list: HeaderList): Buffer {
  const encoder = new HpackEncoder({ maxTableBytes: 0 });
  encoder.encode(list);
  encoder.encode(list);
  return Buffer.from(encoder.block.subarray(0, encoder.blockEnd));
}

/** The frames of one read, and where the ids of each call stand in it. */
function readOf(frames: readonly Buffer[]): { bytes: Buffer; setIds: (first: number) => void } {
  const bytes = Buffer.concat(Array.from({ length: CALLS }, () => frames).flat());
  const places: number[] = [];
  for (let at = 0; at < bytes.length; at += 9 + bytes.readUIntBE(at, 3)) places.push(at + 5);
  const setIds = (first: number): void => {
    for (const [i, place] of places.entries())
      writeUint32(bytes, place, first + 2 * Math.floor(i / frames.length));
  };
  return { bytes, setIds };
}

let seen = 0;
const owner: ConnectionOwner<Connection> & StreamHandler = {
  onStream(stream) {
    stream.handler = owner;
  },
  onHeaders() {},
  /** A server answers when the request has ended. */
  onData(stream, _buffer, start, end, endStream) {
    if (endStream && answers) answer(stream);
    return end - start;
  },
  onDataSent() {},
  onFailed() {},
  onReady() {},
  onCapacity() {},
  onForeignClient() {},
  onForeignServer() {},
  onGoaway() {},
  onClosed(_connection, error) {
    console.error(error);
  },
};
let answers = true;
let nowMs = 0;

function answer(stream: Stream): void {
  seen++;
  const { connection } = stream;
  connection.sendHeaders(stream, responseHead, undefined, false);
  connection.sendData(stream, message, 0, message.length, false);
  connection.sendHeaders(stream, trailers, undefined, true);
}

function connect(role: 'server' | 'client'): Connection {
  const connection = new Connection(new Sink(), owner, {
    role,
    limits: DEFAULT_LIMITS,
    // No read waits for a turn of its own.
    clock: () => (nowMs += READ_INTERVAL_MS),
  });
  const settings = frame(FrameType.SETTINGS, 0, 0, Buffer.alloc(0));
  connection.socket.emit('data', role === 'server' ? Buffer.concat([PREFACE, settings]) : settings);
  return connection;
}

const inOneBreath = Flag.END_HEADERS | Flag.END_STREAM;
const windowBytes = Buffer.alloc(4);
windowBytes.writeUInt32BE(CALLS * message.length);
/** As many bytes as the calls of a read have sent. */
const windowUpdate = frame(FrameType.WINDOW_UPDATE, 0, 0, windowBytes);

{
  const request = readOf([
    frame(FrameType.HEADERS, Flag.END_HEADERS, 1, block(requestHead)),
    frame(FrameType.DATA, Flag.END_STREAM, 1, message),
  ]);
  let connection = connect('server');
  let id = 1;
  measure('serve a call: head, message; answer, trailers', () => {
    if (id > LAST_ID) {
      connection = connect('server');
      id = 1;
    }
    request.setIds(id);
    id += 2 * CALLS;
    connection.socket.emit('data', request.bytes);
    connection.socket.emit('data', windowUpdate);
    if (connection.closed) throw new Error('the connection has ended');
    return CALLS;
  });
}
if (seen === 0) throw new Error('no call was served');

{
  answers = false;
  const response = readOf([
    frame(FrameType.HEADERS, Flag.END_HEADERS, 1, block(responseHead)),
    frame(FrameType.DATA, 0, 1, message),
    frame(FrameType.HEADERS, inOneBreath, 1, block(trailers)),
  ]);
  const connection = connect('client');
  measure('make a call: head, message; answer, trailers', () => {
    response.setIds(connection.nextStreamId);
    for (let i = 0; i < CALLS; i++) {
      const stream = connection.openStream(owner);
      connection.sendHeaders(stream, requestHead, undefined, false);
      connection.sendData(stream, message, 0, message.length, true);
    }
    connection.socket.emit('data', response.bytes);
    connection.socket.emit('data', windowUpdate);
    if (connection.streams.size > 0) throw new Error('a call was not answered');
    return CALLS;
  });
}

{
  const chunk = frame(FrameType.DATA, 0, 1, message);
  const bytes = Buffer.concat(Array.from({ length: 64 }, () => chunk));
  const connection = connect('client');
  const stream = connection.openStream(owner);
  connection.sendHeaders(stream, requestHead, undefined, true);
  connection.socket.emit('data', frame(FrameType.HEADERS, Flag.END_HEADERS, 1, block(responseHead)));
  measure('receive a DATA frame of a call', () => {
    connection.socket.emit('data', bytes);
    return 64;
  });
  if (stream.closed) throw new Error('the stream has ended');
}
process.exit();
