// The common interface of the proxies under test: the sidecar here, and Envoy in bench/.
import type { Test } from 'tap';
import type { TestProcess } from '../process.ts';

export type Owner = Pick<Test, 'teardown'>;

/** The settings that every proxy gets. Times are short, so that ejections begin and end within seconds. */
export interface ProxySettings {
  readonly name: string;
  /** `host:port` of the agent beside it; undefined for a proxy that only calls. */
  readonly app: string | undefined;
  /** The address for callers of the agent. */
  readonly inbound: string | undefined;
  /** The endpoints that its agent calls, or a name with its port, which `hostsFile` resolves. */
  readonly endpoints: readonly string[] | string;
  /** Replaces /etc/hosts for this proxy alone. */
  readonly hostsFile: string | undefined;
  /** `adaptive` is the proxy's best balancer; with round robin only ejection keeps calls from a bad endpoint. */
  readonly balancer: 'adaptive' | 'round_robin';
  /** The time limit of a call that its agent makes. */
  readonly timeoutMs: number;
  /** The time limit of a call to its agent: longer, so that the caller's proxy times out first. */
  readonly inboundTimeoutMs: number;
  /** The time limit of one connection attempt. */
  readonly connectTimeoutMs: number;
  readonly maxAttempts: number;
  readonly ejection: {
    readonly consecutiveFailures: number;
    readonly intervalMs: number;
    readonly baseMs: number;
    readonly maxPercent: number;
  };
  /** Concurrent calls to its agent; 0 means practically no limit. */
  readonly maxConcurrentCalls: number;
}

export const SETTINGS: ProxySettings = {
  name: 'agent',
  app: undefined,
  inbound: undefined,
  endpoints: [],
  hostsFile: undefined,
  balancer: 'adaptive',
  timeoutMs: 2_000,
  inboundTimeoutMs: 6_000,
  connectTimeoutMs: 500,
  maxAttempts: 3,
  ejection: { consecutiveFailures: 3, intervalMs: 250, baseMs: 500, maxPercent: 50 },
  maxConcurrentCalls: 0,
};

export interface RunningProxy {
  readonly process: TestProcess;
  /** `host:port` for external callers. */
  readonly inbound: string;
  /** The port for the agent beside it. */
  readonly outboundPort: number;
  /** The attempts at an endpoint so far, including failed connections. */
  sentTo(endpoint: string): Promise<number>;
  /** The orderly end of a proxy whose pod ends: accept nothing new, finish running calls, exit. */
  leave(): Promise<void>;
  /** Like `leave`, but the process stays. */
  drain(): Promise<void>;
}

export interface ProxyKind {
  readonly name: string;
  start(owner: Owner, settings: ProxySettings): Promise<RunningProxy>;
}
