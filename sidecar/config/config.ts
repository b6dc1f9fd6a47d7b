/**
 * The configuration in the form of the code: camel case, units in the names, every value present, nothing mutable. It
 * follows from the schema (`settings/settings-of.ts`), which declares and describes each setting once; exceptions are
 * here and in `convert.ts`.
 *
 * A duration of 0 means "off" wherever the schema accepts 0.
 */
import type { TimeLimits } from '../policy/deadline.ts';
import type { SettingsOf } from '../settings/settings-of.ts';
import type { schema } from './schema.ts';

type Settings = SettingsOf<typeof schema>;
type ClusterSettings = Settings['outbound']['clusters'][string];
type RouteSettings = Settings['outbound']['routes'][number];

/** The setting `idle_timeout` becomes two limits. */
type IdleLimits = Pick<TimeLimits, 'idleTimeoutMs' | 'otherIdleTimeoutMs'>;

export interface Config extends Omit<Settings, 'inbound' | 'outbound'> {
  readonly inbound: InboundConfig;
  readonly outbound: OutboundConfig;
}

interface InboundConfig extends Omit<Settings['inbound'], 'idleTimeoutMs'>, IdleLimits {}

interface OutboundConfig extends Omit<Settings['outbound'], 'routes' | 'clusters'> {
  readonly routes: readonly RouteConfig[];
  readonly clusters: ReadonlyMap<string, ClusterConfig>;
}

export interface RouteConfig extends Omit<RouteSettings, 'match'> {
  readonly match: RouteMatchConfig;
}

export interface RouteMatchConfig extends Omit<RouteSettings['match'], 'headers'> {
  /** Empty when the file has none. */
  readonly headers: Readonly<Record<string, string>>;
}

export interface ClusterConfig extends Omit<ClusterSettings, 'idleTimeoutMs' | 'endpoints'>, IdleLimits {
  readonly name: string;
  /** Empty when the file has none. */
  readonly endpoints: readonly string[];
}

export type LlmConfig = Settings['llm'];
