/**
 * The names and numbers of HTTP/2 frames (RFC 9113 §4 and §6) and the functions that write them in place.
 * Every writer takes a buffer and an offset, and returns the offset after the bytes that it wrote.
 */

export const FRAME_HEADER_BYTES = 9;
/** The largest payload that a peer may send before it receives a larger SETTINGS_MAX_FRAME_SIZE (RFC 9113 §4.2). */
export const DEFAULT_MAX_FRAME_BYTES = 16_384;
/** The window of a new stream and of a connection before any SETTINGS or WINDOW_UPDATE (RFC 9113 §6.9.2). */
export const DEFAULT_WINDOW_BYTES = 65_535;
/** The largest flow-control window (RFC 9113 §6.9.1). */
export const MAX_WINDOW_BYTES = 2 ** 31 - 1;
export const MAX_STREAM_ID = 2 ** 31 - 1;

export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');

export const FrameType = {
  DATA: 0,
  HEADERS: 1,
  PRIORITY: 2,
  RST_STREAM: 3,
  SETTINGS: 4,
  PUSH_PROMISE: 5,
  PING: 6,
  GOAWAY: 7,
  WINDOW_UPDATE: 8,
  CONTINUATION: 9,
} as const;

export type FrameType = (typeof FrameType)[keyof typeof FrameType];

export const Flag = { END_STREAM: 1, ACK: 1, END_HEADERS: 4, PADDED: 8, PRIORITY: 32 } as const;

/** The error codes of RFC 9113 §7. */
export const ErrorCode = {
  NO_ERROR: 0,
  PROTOCOL_ERROR: 1,
  INTERNAL_ERROR: 2,
  FLOW_CONTROL_ERROR: 3,
  SETTINGS_TIMEOUT: 4,
  STREAM_CLOSED: 5,
  FRAME_SIZE_ERROR: 6,
  REFUSED_STREAM: 7,
  CANCEL: 8,
  COMPRESSION_ERROR: 9,
  CONNECT_ERROR: 10,
  ENHANCE_YOUR_CALM: 11,
  INADEQUATE_SECURITY: 12,
  HTTP_1_1_REQUIRED: 13,
} as const;

export type ErrorCode = (typeof ErrorCode)[keyof typeof ErrorCode];

const ERROR_NAMES: readonly string[] = Object.keys(ErrorCode);

/** Returns the RFC's name for an error code; for an undefined code its number. */
export function errorName(code: number): string {
  return ERROR_NAMES[code] ?? `code ${code}`;
}

export function readUint32(buffer: Buffer, offset: number): number {
  return (
    ((buffer[offset]! << 24) |
      (buffer[offset + 1]! << 16) |
      (buffer[offset + 2]! << 8) |
      buffer[offset + 3]!) >>>
    0
  );
}

export function writeUint32(buffer: Buffer, offset: number, value: number): number {
  buffer[offset] = value >>> 24;
  buffer[offset + 1] = value >>> 16;
  buffer[offset + 2] = value >>> 8;
  buffer[offset + 3] = value;
  return offset + 4;
}

export function writeFrameHeader(
  buffer: Buffer,
  offset: number,
  length: number,
  type: number,
  flags: number,
  streamId: number,
): number {
  buffer[offset] = length >>> 16;
  buffer[offset + 1] = length >>> 8;
  buffer[offset + 2] = length;
  buffer[offset + 3] = type;
  buffer[offset + 4] = flags;
  buffer[offset + 5] = streamId >>> 24;
  buffer[offset + 6] = streamId >>> 16;
  buffer[offset + 7] = streamId >>> 8;
  buffer[offset + 8] = streamId;
  return offset + FRAME_HEADER_BYTES;
}
