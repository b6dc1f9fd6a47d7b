import { ErrorCode, FRAME_HEADER_BYTES, FrameType, writeFrameHeader, writeUint32 } from '../http2/frame.ts';
import { SettingId } from '../http2/settings.ts';

const SETTING_BYTES = 6;
const GOAWAY_FIXED_BYTES = 8;
const MAX_DEBUG_BYTES = 300;

/**
 * What a caller that is refused gets: SETTINGS that allow no stream, so that it sends none, and GOAWAY with
 * INADEQUATE_SECURITY (RFC 9113 §7) and the reason in its debug data. TLS itself could only say so by an alert without
 * words, and in TLS 1.3 a client takes its handshake for done before the server has judged its certificate.
 */
export function tlsRefusal(reason: string, message: string): Buffer {
  const debug = Buffer.from(`${reason}: ${message}`, 'latin1').subarray(0, MAX_DEBUG_BYTES);
  const bytes = Buffer.alloc(2 * FRAME_HEADER_BYTES + SETTING_BYTES + GOAWAY_FIXED_BYTES + debug.length);
  let at = writeFrameHeader(bytes, 0, SETTING_BYTES, FrameType.SETTINGS, 0, 0);
  bytes.writeUInt16BE(SettingId.MAX_CONCURRENT_STREAMS, at);
  writeUint32(bytes, at + 2, 0);
  at += SETTING_BYTES;
  at = writeFrameHeader(bytes, at, GOAWAY_FIXED_BYTES + debug.length, FrameType.GOAWAY, 0, 0);
  writeUint32(bytes, at, 0);
  writeUint32(bytes, at + 4, ErrorCode.INADEQUATE_SECURITY);
  debug.copy(bytes, at + GOAWAY_FIXED_BYTES);
  return bytes;
}
