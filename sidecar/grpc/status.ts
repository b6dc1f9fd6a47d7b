/**
 * gRPC status codes, and the mapping of failures of lower layers to them.
 *
 * Sources: gRPC core concepts "Status codes"; gRPC over HTTP/2, "HTTP2 Transport Mapping" and "Errors"; the gRPC
 * document "HTTP to gRPC Status Code Mapping".
 */

import { ErrorCode } from '../http2/frame.ts';

export const Status = {
  OK: 0,
  CANCELLED: 1,
  UNKNOWN: 2,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
  UNAUTHENTICATED: 16,
} as const;

export type StatusName = keyof typeof Status;
export type StatusCode = (typeof Status)[StatusName];

/** The fields that we keep of trailers too large to relay: they carry the call's status. */
export const STATUS_FIELDS: ReadonlySet<string> = new Set([
  'grpc-status',
  'grpc-message',
  'grpc-retry-pushback-ms',
]);

/** Every name, by the index of its code. */
export const STATUS_NAMES = Object.keys(Status) as readonly StatusName[];

/** The code's name; a code that gRPC doesn't define is UNKNOWN, which bounds the number of labels. */
export function statusName(code: number): StatusName {
  return STATUS_NAMES[code] ?? 'UNKNOWN';
}

export function statusFromName(name: string): StatusCode | undefined {
  return Object.hasOwn(Status, name) ? Status[name as StatusName] : undefined;
}

/** Parses a `grpc-status` value; an unknown code becomes UNKNOWN. */
export function parseStatus(value: string): StatusCode {
  if (value.length === 0 || value.length > 2) return Status.UNKNOWN;
  let code = 0;
  for (let i = 0; i < value.length; i++) {
    const digit = value.charCodeAt(i) - 0x30;
    if (digit < 0 || digit > 9) return Status.UNKNOWN;
    code = code * 10 + digit;
  }
  return code < STATUS_NAMES.length ? (code as StatusCode) : Status.UNKNOWN;
}

/**
 * The status of a stream that ended in RST_STREAM or GOAWAY with this HTTP/2 error code, and no `grpc-status`.
 *
 * NO_ERROR becomes INTERNAL: the peer ended the stream without an error, but also without an answer.
 */
export function statusFromHttp2Error(errorCode: number): StatusCode {
  // A code that no RFC defines, which the peer may send, too, comes to the default.
  const known = errorCode as ErrorCode;
  switch (known) {
    case ErrorCode.REFUSED_STREAM:
      return Status.UNAVAILABLE;
    case ErrorCode.CANCEL:
      return Status.CANCELLED;
    case ErrorCode.ENHANCE_YOUR_CALM:
      return Status.RESOURCE_EXHAUSTED;
    case ErrorCode.INADEQUATE_SECURITY:
      return Status.PERMISSION_DENIED;
    case ErrorCode.NO_ERROR:
    case ErrorCode.PROTOCOL_ERROR:
    case ErrorCode.INTERNAL_ERROR:
    case ErrorCode.FLOW_CONTROL_ERROR:
    case ErrorCode.SETTINGS_TIMEOUT:
    case ErrorCode.STREAM_CLOSED:
    case ErrorCode.FRAME_SIZE_ERROR:
    case ErrorCode.COMPRESSION_ERROR:
    case ErrorCode.CONNECT_ERROR:
    case ErrorCode.HTTP_1_1_REQUIRED:
      return Status.INTERNAL;
    default:
      known satisfies never;
      return Status.INTERNAL;
  }
}

/**
 * The status of an answer without `grpc-status`, as a proxy or a web server in between sends. A code outside gRPC's
 * table is UNKNOWN. So is 431, as in grpc-go, grpc-js and C-core: gRPC's table added it after they were written.
 */
export function statusFromHttp(httpStatus: number): StatusCode {
  switch (httpStatus) {
    case 400:
      return Status.INTERNAL;
    case 401:
      return Status.UNAUTHENTICATED;
    case 403:
      return Status.PERMISSION_DENIED;
    case 404:
      return Status.UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
      return Status.UNAVAILABLE;
    default:
      return Status.UNKNOWN;
  }
}
