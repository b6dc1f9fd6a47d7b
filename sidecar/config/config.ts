/**
 * The configuration in the form of the code: camel case, units in the names, every value present, nothing mutable. It
 * follows from the schema (`settings/settings-of.ts`), which declares and describes each setting once.
 *
 * A duration of 0 means "off" wherever the schema accepts 0.
 */
import { type SettingsOf, settingsOf } from '../settings/settings-of.ts';
import { type FileConfig, schema } from './schema.ts';

export type Config = SettingsOf<typeof schema>;
export type ClusterConfig = NonNullable<ReturnType<Config['outbound']['clusters']['get']>>;
export type RouteConfig = Config['outbound']['routes'][number];
export type RouteMatchConfig = RouteConfig['match'];
export type LlmConfig = Config['llm'];

/** The immutable configuration of an already validated `file`. */
export function toConfig(file: FileConfig): Config {
  return deepFreeze(settingsOf(schema, file));
}

function deepFreeze<T>(value: T): T {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value;
  for (const inner of value instanceof Map ? value.values() : Object.values(value)) deepFreeze(inner);
  return Object.freeze(value);
}
