/** Converts the file form to `Config`; most of it follows from the schema. */

import { STREAM_IDLE_TIMEOUT } from '../policy/time-limit-settings.ts';
import { parseDurationMs } from '../settings/duration.ts';
import { settingsOf } from '../settings/settings-of.ts';
import type { Config } from './config.ts';
import { type FileConfig, schema } from './schema.ts';

/** The immutable configuration of an already validated `file`. */
export function toConfig(file: FileConfig): Config {
  const { inbound, outbound, ...rest } = settingsOf(schema, file);
  return deepFreeze({
    ...rest,
    inbound: { ...inbound, ...idleLimits(inbound.idleTimeoutMs) },
    outbound: {
      ...outbound,
      routes: outbound.routes.map(({ match, cluster }) => ({
        match: { ...match, headers: match.headers ?? {} },
        cluster,
      })),
      clusters: new FrozenMap(
        Object.entries(outbound.clusters).map(([name, { idleTimeoutMs, endpoints = [], ...cluster }]) => [
          name,
          { name, ...cluster, endpoints, ...idleLimits(idleTimeoutMs) },
        ]),
      ),
    },
  });
}

const STREAM_IDLE_MS = parseDurationMs(STREAM_IDLE_TIMEOUT)!;

function idleLimits(idleTimeoutMs: number | undefined) {
  return { idleTimeoutMs: idleTimeoutMs ?? STREAM_IDLE_MS, otherIdleTimeoutMs: idleTimeoutMs ?? 0 };
}

/** Object.freeze does not protect a Map's entries, so this Map refuses changes itself. */
class FrozenMap<K, V> extends Map<K, V> {
  private frozen = false;

  constructor(entries: Iterable<readonly [K, V]>) {
    super();
    for (const [key, value] of entries) super.set(key, value);
    this.frozen = true;
  }

  override set(key: K, value: V): this {
    if (this.frozen) throw new TypeError('the configuration can not be changed; load a new one');
    return super.set(key, value);
  }

  override delete(): boolean {
    throw new TypeError('the configuration can not be changed; load a new one');
  }

  override clear(): void {
    throw new TypeError('the configuration can not be changed; load a new one');
  }
}

function deepFreeze<T>(value: T): T {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value;
  for (const inner of value instanceof Map ? value.values() : Object.values(value)) deepFreeze(inner);
  return Object.freeze(value);
}
