/**
 * What sidecars tell each other beyond RFC 9113: settings, and an error code, from the ranges nobody assigned. Others ignore
 * such settings (§6.5.2). A connection's owner registers them with it.
 */
import type { PeerSettings, SettingsExtension } from '../http2/settings.ts';

export const SidecarSetting = {
  /** Keepalive PINGs on calls without data are welcome, as often as each so many milliseconds. */
  PINGS_WELCOME: 0xf0a7,
  /** A task that is sent again is run once here, if its request has at most so many bytes. */
  TASKS_ONCE: 0xf0a8,
  /** Compressed requests are among those, by these encodings (bits: `message-encoding.ts`). */
  TASKS_ONCE_ENCODINGS: 0xf0a9,
} as const;

/** Their order is that of {@link PeerSettings.extensions}. */
const IDS = [
  SidecarSetting.PINGS_WELCOME,
  SidecarSetting.TASKS_ONCE,
  SidecarSetting.TASKS_ONCE_ENCODINGS,
] as const;

/**
 * A RST_STREAM's code, for sidecars that have announced `TASKS_ONCE`: this attempt is given up, and the next one will join
 * its task. To all others an unknown code is an INTERNAL_ERROR (RFC 9113 §7), and they never get it.
 */
export const ATTEMPT_COMES_BACK = 0xf0a8;

/** For clients, which read these settings and send none. */
export const READ_SIDECAR_SETTINGS: SettingsExtension = { ids: IDS, announced: [] };

export interface Announcement {
  /** Downstreams that send PINGs more often, without a call that moves, are sent away; 0 is off. */
  readonly minPingIntervalMs: number;
  /** Tasks with requests up to so many bytes are run once, however often they are sent. */
  readonly tasksOnceMaxBytes?: number;
  /** Compressed ones, too, by these encodings (bits: `message-encoding.ts`). */
  readonly tasksOnceEncodings?: number;
}

/** For servers, which read these settings and send them. */
export function announceSidecar({
  minPingIntervalMs,
  tasksOnceMaxBytes = 0,
  tasksOnceEncodings = 0,
}: Announcement): SettingsExtension {
  const announced: number[] = [SidecarSetting.PINGS_WELCOME, Math.max(minPingIntervalMs, 1)];
  if (tasksOnceMaxBytes > 0)
    announced.push(
      SidecarSetting.TASKS_ONCE,
      tasksOnceMaxBytes,
      SidecarSetting.TASKS_ONCE_ENCODINGS,
      tasksOnceEncodings,
    );
  return { ids: IDS, announced };
}

/** The interval at which the peer welcomes PINGs without data; 0 when it has not said that it does. */
export function welcomePingIntervalMs({ extensions }: PeerSettings): number {
  return extensions[0] ?? 0;
}

export function tasksOnceMaxBytes({ extensions }: PeerSettings): number {
  return extensions[1] ?? 0;
}

export function tasksOnceEncodings({ extensions }: PeerSettings): number {
  return extensions[2] ?? 0;
}

/** Whether the peer is another sidecar. */
export function isSidecar(peer: PeerSettings): boolean {
  return welcomePingIntervalMs(peer) > 0;
}
