/**
 * The clusters of services that serve several agents in one process. Each named agent type becomes a cluster of its own with
 * the same endpoints, so that every policy judges it alone: where all calls of one agent fail, its circuit opens and its
 * endpoints are ejected for it, and the calls of its neighbours notice nothing.
 */
import type { AgentTypeClusters, ClusterWithPolicies } from '../proxy/cluster-policies.ts';
import type { OutboundClusterSettings } from './settings.ts';

/** The name, in figures and logs, of the part of a cluster that serves one agent type. */
function agentTypeCluster(name: string, agentType: string): string {
  // No name in the configuration has a slash.
  return `${name}/${agentType}`;
}

/** The settings with a further cluster for each agent type that a cluster names. */
export function withAgentTypes(
  clusters: ReadonlyMap<string, OutboundClusterSettings>,
): ReadonlyMap<string, OutboundClusterSettings> {
  const all = new Map(clusters);
  for (const [name, cluster] of clusters)
    for (const agentType of cluster.agentTypes) {
      const part = agentTypeCluster(name, agentType);
      all.set(part, { ...cluster, name: part, agentTypes: [] });
    }
  return all;
}

/** The clusters of agent types, by the name of the cluster that they belong to. */
export function agentTypesOf(
  settings: ReadonlyMap<string, OutboundClusterSettings>,
  clusters: ReadonlyMap<string, ClusterWithPolicies>,
): AgentTypeClusters {
  const found = new Map<string, ReadonlyMap<string, ClusterWithPolicies>>();
  for (const [name, { agentTypes }] of settings)
    if (agentTypes.length > 0)
      found.set(name, new Map(agentTypes.map((type) => [type, clusters.get(agentTypeCluster(name, type))!])));
  return found;
}
