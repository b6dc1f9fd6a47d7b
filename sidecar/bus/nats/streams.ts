/** Makes the streams and consumers of a log on NATS, and says where those that are there differ. */
import { JetStreamApiError, type JetStreamManager, type StreamConfig } from '@nats-io/jetstream';
import { millis } from '@nats-io/transport-node';
import { LogSetupError } from '../log/log-errors.ts';
import type { TaskLogSettings } from '../log/task-log-settings.ts';
import { LANES, laneConsumer, queueStream } from './names.ts';
import { laneConfig, type StreamSettings } from './stream-configs.ts';

const NOT_FOUND = 404;
/** A stream of that name is there with other settings: another sidecar was faster. */
const NAME_IN_USE = 10058;

/**
 * Creates what is missing. With `update`, what is there gets these settings too.
 *
 * @returns where the stream that was there differs from these settings, for a person
 */
export async function ensureStream(
  jsm: JetStreamManager,
  settings: StreamSettings,
  update = false,
): Promise<readonly string[]> {
  try {
    const { config } = await jsm.streams.info(settings.name);
    // More copies than we would make are no harm, and are not taken back.
    const copies = Math.max(config.num_replicas, settings.num_replicas ?? 1);
    const wanted = { ...settings, num_replicas: copies };
    const differences = differencesOf(config, wanted);
    if (update && differences.length > 0) await jsm.streams.update(settings.name, wanted);
    return differences;
  } catch (error) {
    if (!isNotFound(error)) throw refused(error, settings.name);
    await jsm.streams.add(settings).catch((error: unknown) => {
      if (!(error instanceof JetStreamApiError && error.code === NAME_IN_USE))
        throw refused(error, settings.name);
    });
    return [];
  }
}

/** The server adds fields of its own, which are not ours to judge. */
function differencesOf(found: StreamConfig, wanted: StreamSettings): string[] {
  const differences: string[] = [];
  for (const [field, value] of Object.entries(wanted)) {
    const there = found[field as keyof StreamConfig];
    if (isEqual(there, value)) continue;
    const [is, was] = [there, value].map((each) => textOf(field, each));
    differences.push(`${wanted.name}: ${field} is ${is}, and ${was} by this configuration`);
  }
  return differences;
}

/** Of an object those fields count that we set. */
function isEqual(there: unknown, wanted: unknown): boolean {
  if (typeof wanted !== 'object' || wanted === null) return there === wanted;
  if (typeof there !== 'object' || there === null) return false;
  return Object.entries(wanted).every(([name, value]) =>
    isEqual((there as Record<string, unknown>)[name], value),
  );
}

const IN_NANOSECONDS: ReadonlySet<string> = new Set(['max_age', 'duplicate_window']);

function textOf(field: string, value: unknown): string {
  return IN_NANOSECONDS.has(field) ? `${millis(Number(value)) / 1_000} s` : JSON.stringify(value ?? null);
}

/** @returns after how long the lanes deliver a task again that nobody holds, in milliseconds */
export async function ensureLanes(
  jsm: JetStreamManager,
  agentType: string,
  settings: TaskLogSettings,
  update = false,
): Promise<number> {
  const stream = queueStream(agentType);
  const waits = await Promise.all(
    Array.from({ length: LANES }, async (_, lane) => {
      const config = laneConfig(agentType, lane, settings);
      try {
        const found = await jsm.consumers.info(stream, laneConsumer(lane));
        if (!update) return found.config.ack_wait ?? 0;
        await jsm.consumers.update(stream, laneConsumer(lane), config);
      } catch (error) {
        if (!isNotFound(error)) throw refused(error, stream);
        await jsm.consumers.add(stream, config).catch((error: unknown) => {
          throw refused(error, stream);
        });
      }
      return config.ack_wait ?? 0;
    }),
  );
  return millis(waits[0] ?? 0);
}

function isNotFound(error: unknown): boolean {
  return error instanceof JetStreamApiError && error.status === NOT_FOUND;
}

/** A refusal of the server itself needs a person; everything else is an outage. */
function refused(error: unknown, stream: string): unknown {
  if (!(error instanceof JetStreamApiError) || error.status >= 500) return error;
  return new LogSetupError(
    `the NATS server refuses the stream ${stream} (${error.message}): run outrigger bus setup with an account that may create it`,
    error,
  );
}
