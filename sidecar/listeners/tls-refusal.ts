/** Writes the GOAWAY frame that gives a refused caller the reason. */
import { ErrorCode, FRAME_HEADER_BYTES, FrameType, writeFrameHeader, writeUint32 } from '../http2/frame.ts';

const FIXED_BYTES = 8;
const MAX_DEBUG_BYTES = 300;

/**
 * Writes the answer to a refused caller: GOAWAY with INADEQUATE_SECURITY (RFC 9113 §7) and the reason as debug data. TLS
 * itself could only send an alert without a text, and in TLS 1.3 a client considers its handshake complete before the
 * server has verified its certificate. No SETTINGS precede it: gRPC clients treat a connection without SETTINGS as failed
 * and back off; after a connection that succeeded and then closed they would reconnect at once.
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
