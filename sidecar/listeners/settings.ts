/** The part of the configuration that the listeners read. */
import type { DiscoveredClusterSettings } from '../cluster/cluster-set.ts';
import { CallPathGuard } from '../policy/call-path.ts';
import type { PolicySettings } from '../proxy/cluster-policies.ts';
import type { RouteRule } from '../proxy/route-settings.ts';
import { UNNAMED } from '../telemetry/service-settings.ts';
import type { InboundKeys, OutboundKeys } from './listener-settings.ts';

/** The part of the configuration that the listeners read; `config/config.ts` has it all in this shape. */
export interface InboundSettings {
  readonly name: string;
  readonly version: string;
  readonly inbound: InboundKeys;
}

export type OutboundClusterSettings = DiscoveredClusterSettings &
  PolicySettings & {
    /** The agents that its endpoints serve side by side; see `agent-type-clusters.ts`. */
    readonly agentTypes: readonly string[];
  };

export interface OutboundSettings {
  readonly name: string;
  readonly inbound: Pick<
    InboundKeys,
    'maxMessageBytes' | 'maxCallDepth' | 'allowCallCycles' | 'tasks' | 'agentTypes'
  >;
  readonly outbound: OutboundKeys & {
    readonly routes: readonly RouteRule[];
    readonly clusters: ReadonlyMap<string, OutboundClusterSettings>;
  };
}

/** @param instance identifies an agent without a name; its replicas look like different agents then */
export function callPathGuard(
  { name, inbound }: Pick<OutboundSettings, 'name' | 'inbound'>,
  instance: string,
): CallPathGuard {
  const { maxCallDepth: maxDepth, allowCallCycles: allowCycles } = inbound;
  const agentTypes = inbound.agentTypes.keys();
  return new CallPathGuard(name === UNNAMED ? instance : name, { maxDepth, allowCycles, agentTypes });
}
