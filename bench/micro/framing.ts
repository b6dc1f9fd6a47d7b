// Measures reading and writing of a frame, without sockets.
import { Socket } from 'node:net';
import { FRAME_HEADER_BYTES, FrameType, writeFrameHeader } from '../../sidecar/http2/frame.ts';
import { FrameReader, type FrameSink } from '../../sidecar/http2/frame-reader.ts';
import { FrameWriter } from '../../sidecar/http2/writer.ts';
import { measure } from './measure.ts';

const READ_BYTES = 65_536;

let seen = 0;
const sink: FrameSink = {
  onFrame: () => seen++,
  onData: () => seen++,
  onDataMore() {},
  onOversizeFrame() {},
  onForeignClient() {},
  onForeignServer() {},
  onPreface() {},
};

/** As many frames as a read brings; the last one is cut in two, as they are. */
function readOf(payloadBytes: number): Buffer {
  const size = FRAME_HEADER_BYTES + payloadBytes;
  const bytes = Buffer.alloc(Math.max(READ_BYTES, size));
  for (let at = 0; at < bytes.length; at += size) {
    if (bytes.length - at < FRAME_HEADER_BYTES) break;
    writeFrameHeader(bytes, at, payloadBytes, FrameType.DATA, 0, 1);
  }
  return bytes;
}

for (const payloadBytes of [40, 130, 1_024, 16_384]) {
  const whole = Math.floor(READ_BYTES / (FRAME_HEADER_BYTES + payloadBytes));
  const bytes = readOf(payloadBytes).subarray(0, whole * (FRAME_HEADER_BYTES + payloadBytes));
  const reader = new FrameReader(sink, 16_384, false);
  measure(`read a DATA frame of ${payloadBytes} bytes`, () => {
    reader.push(bytes);
    return whole;
  });
}
if (seen === 0) throw new Error('the reader found no frame');

/** A socket that takes everything and keeps nothing. */
class Sink extends Socket {
  override write(): boolean {
    return true;
  }
}

const writer = new FrameWriter(new Sink());
for (const payloadBytes of [40, 130, 1_024, 16_384]) {
  const payload = Buffer.alloc(payloadBytes);
  measure(`write a DATA frame of ${payloadBytes} bytes`, () => {
    for (let i = 0; i < 8; i++) writer.frame(FrameType.DATA, 0, 1, payload, 0, payloadBytes);
    writer.flush();
    return 8;
  });
}
