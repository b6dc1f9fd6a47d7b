/**
 * The extensions to RFC 9113 that sidecars agree on: settings and an error code, from unassigned ranges. Other peers
 * ignore such settings (§6.5.2). The owner of a connection registers them.
 */
import type { PeerSettings, SettingsExtension } from '../http2/settings.ts';

export const SidecarSetting = {
  /** The peer accepts keepalive PINGs on calls without data, one every this many milliseconds. */
  PINGS_WELCOME: 0xf0a7,
  /** This side runs a repeated task once, if its request has at most this many bytes. */
  TASKS_ONCE: 0xf0a8,
  /** The same for compressed requests with these encodings (bits: `message-encoding.ts`). */
  TASKS_ONCE_ENCODINGS: 0xf0a9,
} as const;

/** In the order of {@link PeerSettings.extensions}. */
const IDS = [
  SidecarSetting.PINGS_WELCOME,
  SidecarSetting.TASKS_ONCE,
  SidecarSetting.TASKS_ONCE_ENCODINGS,
] as const;

/**
 * A RST_STREAM code for sidecars that have announced `TASKS_ONCE`: the attempt is abandoned, and the next one will join
 * its task. Other peers never receive it; to them an unknown code means INTERNAL_ERROR (RFC 9113 §7).
 */
export const ATTEMPT_COMES_BACK = 0xf0a8;

/** For clients, which read these settings and send none. */
export const READ_SIDECAR_SETTINGS: SettingsExtension = { ids: IDS, announced: [] };

export interface Announcement {
  /** A downstream that sends PINGs more often, without a call that moves data, is disconnected; 0 is off. */
  readonly minPingIntervalMs: number;
  /** Repeated tasks with requests up to this many bytes run once. */
  readonly tasksOnceMaxBytes?: number;
  /** The same for compressed requests with these encodings (bits: `message-encoding.ts`). */
  readonly tasksOnceEncodings?: number;
}

/** For servers, which read these settings and announce them. */
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

/** The interval at which the peer accepts PINGs without data; 0 when it has announced none. */
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
