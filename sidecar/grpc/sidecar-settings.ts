/**
 * The extensions to RFC 9113 that sidecars agree on: settings and an error code, from unassigned ranges. Other peers
 * ignore such settings (§6.5.2). The owner of a connection registers them.
 */
import { randomFillSync } from 'node:crypto';
import type { PeerSettings, SettingsExtension } from '../http2/settings.ts';

export const SidecarSetting = {
  /** The peer accepts keepalive PINGs on calls without data, one every this many milliseconds. */
  PINGS_WELCOME: 0xf0a7,
  /** This side runs a repeated task once, if its request has at most this many bytes. */
  TASKS_ONCE: 0xf0a8,
  /** The same for compressed requests with these encodings (bits: `message-encoding.ts`). */
  TASKS_ONCE_ENCODINGS: 0xf0a9,
  /**
   * From a server: a task's stream whose connection was lost can be resumed for this many milliseconds. From a client: it
   * resumes such streams; it says so only to servers that have announced it.
   */
  STREAMS_RESUME: 0xf0aa,
  /** From a server that resumes streams: 32 random bits, the same on all its connections ({@link serverNumber}). */
  SERVER_NUMBER: 0xf0ab,
  /** From a client that resumes streams: 128 random bits, in four settings from this one on, that name the connection. */
  CONNECTION_NAME: 0xf0ac,
} as const;

/** The settings in which a connection's name is sent. */
const NAME_WORDS = 4;

/** In the order of {@link PeerSettings.extensions}. */
const IDS = [
  SidecarSetting.PINGS_WELCOME,
  SidecarSetting.TASKS_ONCE,
  SidecarSetting.TASKS_ONCE_ENCODINGS,
  SidecarSetting.STREAMS_RESUME,
  SidecarSetting.SERVER_NUMBER,
  ...Array.from({ length: NAME_WORDS }, (_, nth) => SidecarSetting.CONNECTION_NAME + nth),
];
const FIRST_NAME_WORD = 5;

/**
 * A RST_STREAM code for sidecars that have announced `TASKS_ONCE`: the attempt is abandoned, and the next one will join
 * its task. To the publisher of a bus (`bus/publisher/`) it also means that the caller has vanished without a cancel. Other
 * peers never receive it; to them an unknown code means INTERNAL_ERROR (RFC 9113 §7).
 */
export const ATTEMPT_COMES_BACK = 0xf0a8;

/** For clients, which read these settings and send none before they know their peer. */
export const READ_SIDECAR_SETTINGS: SettingsExtension = { ids: IDS, announced: [] };

export interface Announcement {
  /** A downstream that sends PINGs more often, without a call that moves data, is disconnected; 0 is off. */
  readonly minPingIntervalMs: number;
  /** Repeated tasks with requests up to this many bytes run once. */
  readonly tasksOnceMaxBytes?: number;
  /** The same for compressed requests with these encodings (bits: `message-encoding.ts`). */
  readonly tasksOnceEncodings?: number;
  /** How long a task's stream can be resumed after its connection was lost; 0 is off. */
  readonly streamsResumeMs?: number;
  /** {@link nextServerNumber}. */
  readonly serverNumber?: number;
}

/** For servers, which read these settings and announce them. */
export function announceSidecar({
  minPingIntervalMs,
  tasksOnceMaxBytes = 0,
  tasksOnceEncodings = 0,
  streamsResumeMs = 0,
  serverNumber = 0,
}: Announcement): SettingsExtension {
  const announced: number[] = [SidecarSetting.PINGS_WELCOME, Math.max(minPingIntervalMs, 1)];
  if (tasksOnceMaxBytes > 0)
    announced.push(
      SidecarSetting.TASKS_ONCE,
      tasksOnceMaxBytes,
      SidecarSetting.TASKS_ONCE_ENCODINGS,
      tasksOnceEncodings,
    );
  if (streamsResumeMs > 0)
    announced.push(
      SidecarSetting.STREAMS_RESUME,
      Math.ceil(streamsResumeMs),
      SidecarSetting.SERVER_NUMBER,
      serverNumber,
    );
  return { ids: IDS, announced };
}

/** A server that can resume streams keeps what it has sent until it hears that it was received: so it hears it often. */
const RECEIVED_STEP_BYTES = 262_144;
/** It hears it for so many with other frames. */
const RECEIVED_RIDE_BYTES = 65_536;

/** What a client's connection needs for its answer. */
interface AnsweringConnection {
  readonly peer: PeerSettings;
  readonly receiver: { readonly window: { reopenOften(rideBytes: number, stepBytes: number): void } };
  readonly control: { announce(settings: readonly number[]): void };
  name: string;
}

/** Names a client's connection, and tells a server that can resume streams that the client does. */
export function answerThatResumes(connection: AnsweringConnection): void {
  if (streamsResumeMs(connection.peer) === 0) return;
  connection.receiver.window.reopenOften(RECEIVED_RIDE_BYTES, RECEIVED_STEP_BYTES);
  const words = randomFillSync(new Uint32Array(NAME_WORDS));
  const settings: number[] = [SidecarSetting.STREAMS_RESUME, 1];
  for (const [nth, word] of words.entries()) settings.push(SidecarSetting.CONNECTION_NAME + nth, word);
  connection.name = nameText(words);
  connection.control.announce(settings);
}

/** The text of a connection's name. */
function nameText(words: Iterable<number>): string {
  let text = '';
  for (const word of words) text += word.toString(16).padStart(8, '0');
  return text;
}

/** How long after the loss of its connection the server can resume a task's stream; of a client, whether it does. 0: never. */
export function streamsResumeMs({ extensions }: PeerSettings): number {
  return extensions[3] ?? 0;
}

/** A number for a server. */
export function nextServerNumber(): number {
  return randomFillSync(new Uint32Array(1))[0]!;
}

/** The number of the server: another one at the same address, or the same one started again, has another. */
export function serverNumber({ extensions }: PeerSettings): number {
  return extensions[4] ?? 0;
}

/** The name that a client has given its connection. */
export function announcedName({ extensions }: PeerSettings): string {
  return nameText(extensions.slice(FIRST_NAME_WORD, FIRST_NAME_WORD + NAME_WORDS));
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
