import { ErrorCode, FRAME_HEADER_BYTES, FrameType, writeFrameHeader, writeUint32 } from '../http2/frame.ts';

const FIXED_BYTES = 8;
const MAX_DEBUG_BYTES = 300;

/**
 * What a caller that is refused gets: GOAWAY with INADEQUATE_SECURITY (RFC 9113 §7) and the reason in its debug data.
 * TLS itself could only say so by an alert without words, and in TLS 1.3 a client takes its handshake for done before
 * the server has judged its certificate. No SETTINGS go before it: to gRPC clients a connection without them was not
 * made, so that they back off; one that was made and then left they would make again at once.
 */
export function tlsRefusal(reason: string, message: string): Buffer {
  const debug = Buffer.from(`${reason}: ${message}`, 'latin1').subarray(0, MAX_DEBUG_BYTES);
  const length = FIXED_BYTES + debug.length;
  const bytes = Buffer.alloc(FRAME_HEADER_BYTES + length);
  const at = writeFrameHeader(bytes, 0, length, FrameType.GOAWAY, 0, 0);
  writeUint32(bytes, at, 0);
  writeUint32(bytes, at + 4, ErrorCode.INADEQUATE_SECURITY);
  debug.copy(bytes, at + FIXED_BYTES);
  return bytes;
}
