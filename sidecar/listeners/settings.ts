import type { DiscoveredClusterSettings } from '../cluster/cluster-set.ts';
import { CallPathGuard } from '../policy/call-path.ts';
import type { TimeLimits } from '../policy/deadline.ts';
import type { PolicySettings } from '../proxy/cluster-policies.ts';
import type { RouteRule } from '../proxy/router.ts';
import type { TlsDoorSettings } from './tls-acceptor.ts';

/** What the listeners want of a configuration; `config/config.ts` has it all in this shape. */
interface ListenerLimitSettings {
  readonly maxConnections: number;
  readonly maxConcurrentStreams: number;
  readonly maxHeaderBytes: number;
}

export interface InboundSettings {
  readonly name: string;
  readonly version: string;
  readonly inbound: TimeLimits & {
    /** `host:port` or `unix:/path` of the local agent. */
    readonly app: string;
    readonly maxConcurrentCalls: number;
    readonly maxMessageBytes: number;
    readonly adaptiveConcurrency: boolean;
    readonly queue: { readonly maxCalls: number; readonly maxWaitMs: number };
    readonly rateLimit: { readonly callsPerSecond: number; readonly burst: number };
    readonly tasks: {
      readonly deduplicate: boolean;
      readonly maxAgeMs: number;
      readonly maxBytes: number;
      readonly maxAnswerBytes: number;
      readonly scopeHeaders: readonly string[];
    };
    readonly tokenBudget: {
      readonly from: 'anyone' | 'identified' | 'nobody';
      readonly allowIdentities: readonly string[];
    };
    readonly maxCallDepth: number;
    readonly allowCallCycles: boolean;
    readonly callBaggage: boolean;
    readonly forwardClientCert: boolean;
    readonly keepalive: {
      readonly timeMs: number;
      readonly timeoutMs: number;
      readonly maxConnectionAgeMs: number;
      readonly minTimeMs: number;
    };
    readonly limits: ListenerLimitSettings;
    readonly health: { readonly intervalMs: number; readonly timeoutMs: number };
    /** Plain text when undefined. */
    readonly tls?: TlsDoorSettings | undefined;
  };
}

export interface OutboundSettings {
  readonly name: string;
  readonly inbound: {
    readonly maxMessageBytes: number;
    readonly maxCallDepth: number;
    readonly allowCallCycles: boolean;
  };
  readonly outbound: {
    readonly limits: ListenerLimitSettings;
    readonly namespace: string;
    readonly clusterDomain: string;
    readonly routes: readonly RouteRule[];
    readonly clusters: ReadonlyMap<string, DiscoveredClusterSettings & PolicySettings>;
  };
}

/** What an agent is called that was given no name (`config/schema.ts`): many may be called so. */
const UNNAMED = 'agent';

/** @param instance tells an agent without a name from others; its replicas look like different agents then */
export function callPathGuard(
  { name, inbound }: Pick<OutboundSettings, 'name' | 'inbound'>,
  instance: string,
): CallPathGuard {
  const { maxCallDepth: maxDepth, allowCallCycles: allowCycles } = inbound;
  return new CallPathGuard(name === UNNAMED ? instance : name, { maxDepth, allowCycles });
}
