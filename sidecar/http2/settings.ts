/** A peer's SETTINGS, and what they change (RFC 9113 §6.5). */
import {
  DEFAULT_MAX_FRAME_BYTES,
  DEFAULT_WINDOW_BYTES,
  ErrorCode,
  MAX_WINDOW_BYTES,
  readUint32,
} from './frame.ts';

/** The settings of RFC 9113 §6.5.2. */
export const SettingId = {
  HEADER_TABLE_SIZE: 1,
  ENABLE_PUSH: 2,
  MAX_CONCURRENT_STREAMS: 3,
  INITIAL_WINDOW_SIZE: 4,
  MAX_FRAME_SIZE: 5,
  MAX_HEADER_LIST_SIZE: 6,
} as const;

/** Settings beyond RFC 9113's on which the owner of a connection agrees with its peers. */
export interface SettingsExtension {
  /** The ids that we read; we ignore all others (§6.5.2). */
  readonly ids: readonly number[];
  /** The settings that we send: ids and values in turn. */
  readonly announced: readonly number[];
}

/** The peer's latest settings, at first the defaults in force before its first SETTINGS. */
export class PeerSettings {
  headerTableBytes = 4096;
  /** RFC 9113 §6.5.2 sets no limit before the first SETTINGS. */
  maxConcurrentStreams = Number.POSITIVE_INFINITY;
  initialWindowBytes = DEFAULT_WINDOW_BYTES;
  maxFrameBytes = DEFAULT_MAX_FRAME_BYTES;
  maxHeaderListBytes = Number.POSITIVE_INFINITY;
  /** The values of {@link extensionIds}, in their order; 0 before the peer sends them. */
  readonly extensions: number[];
  readonly extensionIds: readonly number[];

  constructor(extensionIds: readonly number[] = []) {
    this.extensionIds = extensionIds;
    this.extensions = extensionIds.map(() => 0);
  }
}

export interface SettingsFault {
  readonly code: number;
  readonly message: string;
}

/**
 * Applies one SETTINGS payload, entry by entry in order (RFC 9113 §6.5.3).
 *
 * @param fromServer whether the payload came from a server, which must not enable push (§6.5.2)
 * @returns the connection error that the payload causes, if any
 */
export function applySettings(
  peer: PeerSettings,
  buffer: Buffer,
  start: number,
  end: number,
  fromServer: boolean,
): SettingsFault | undefined {
  for (let at = start; at + 6 <= end; at += 6) {
    const id = (buffer[at]! << 8) | buffer[at + 1]!;
    const value = readUint32(buffer, at + 2);
    switch (id) {
      case SettingId.HEADER_TABLE_SIZE:
        peer.headerTableBytes = value;
        break;
      case SettingId.ENABLE_PUSH:
        if (value > 1 || (fromServer && value === 1)) {
          return {
            code: ErrorCode.PROTOCOL_ERROR,
            message: `SETTINGS_ENABLE_PUSH must not be ${value} here`,
          };
        }
        break;
      case SettingId.MAX_CONCURRENT_STREAMS:
        peer.maxConcurrentStreams = value;
        break;
      case SettingId.INITIAL_WINDOW_SIZE:
        if (value > MAX_WINDOW_BYTES) {
          return {
            code: ErrorCode.FLOW_CONTROL_ERROR,
            message: `SETTINGS_INITIAL_WINDOW_SIZE ${value} is above 2^31-1`,
          };
        }
        peer.initialWindowBytes = value;
        break;
      case SettingId.MAX_FRAME_SIZE:
        if (value < DEFAULT_MAX_FRAME_BYTES || value > 2 ** 24 - 1) {
          return {
            code: ErrorCode.PROTOCOL_ERROR,
            message: `SETTINGS_MAX_FRAME_SIZE ${value} is out of range`,
          };
        }
        peer.maxFrameBytes = value;
        break;
      case SettingId.MAX_HEADER_LIST_SIZE:
        peer.maxHeaderListBytes = value;
        break;
      default: {
        const extension = peer.extensionIds.indexOf(id);
        if (extension >= 0) peer.extensions[extension] = value;
        break;
      }
    }
  }
  return undefined;
}
