/**
 * The configuration as the rest of the code sees it: camel case, units in the names, every value present, nothing changeable.
 * All of it follows from the schema (`settings/settings-of.ts`), where each setting is declared and described once; what
 * differs from that is here and in `convert.ts`.
 *
 * A duration of 0 means "off" wherever the schema lets 0 through.
 */
import type { TimeLimits } from '../policy/deadline.ts';
import type { SettingsOf } from '../settings/settings-of.ts';
import type { schema } from './schema.ts';

type Settings = SettingsOf<typeof schema>;
type ClusterSettings = Settings['outbound']['clusters'][string];
type RouteSettings = Settings['outbound']['routes'][number];

/** One setting, `idle_timeout`, is two limits. */
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
  /** Empty where none are given. */
  readonly headers: Readonly<Record<string, string>>;
}

export interface ClusterConfig extends Omit<ClusterSettings, 'idleTimeoutMs' | 'endpoints'>, IdleLimits {
  readonly name: string;
  /** Empty where none are given. */
  readonly endpoints: readonly string[];
}

export type LlmConfig = Settings['llm'];
