// The proxies under test, behind one face: the sidecar here, and Envoy in bench/.
import type { Test } from 'tap';
import type { TestProcess } from '../process.ts';

export type Owner = Pick<Test, 'teardown'>;

/** What is set up alike in every proxy. Times are short, so that ejections come and go within seconds. */
export interface ProxySettings {
  readonly name: string;
  /** `host:port` of the agent beside it; none for a proxy that only calls. */
  readonly app: string | undefined;
  /** Where callers reach the agent through it. */
  readonly inbound: string | undefined;
  /** The endpoints its agent calls, or a name with its port: then `hostsFile` says where that is. */
  readonly endpoints: readonly string[] | string;
  /** Takes the place of /etc/hosts for this proxy alone. */
  readonly hostsFile: string | undefined;
  /** `adaptive` is the proxy's own best; with round robin nothing but ejection keeps calls from a bad endpoint. */
  readonly balancer: 'adaptive' | 'round_robin';
  /** The most a call that its agent makes may take. */
  readonly timeoutMs: number;
  /** The most a call to its agent may take: more, so that it is the caller's proxy that loses patience. */
  readonly inboundTimeoutMs: number;
  /** Of one attempt, at an endpoint whose connection does not come. */
  readonly connectTimeoutMs: number;
  readonly maxAttempts: number;
  readonly ejection: {
    readonly consecutiveFailures: number;
    readonly intervalMs: number;
    readonly baseMs: number;
    readonly maxPercent: number;
  };
  /** Calls that its agent gets at a time; 0 is no limit to speak of. */
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
  /** `host:port` for callers from elsewhere. */
  readonly inbound: string;
  /** For the agent beside it. */
  readonly outboundPort: number;
  /** Attempts that were begun at an endpoint so far, failed connections included. */
  sentTo(endpoint: string): Promise<number>;
  /** What a proxy is told when its pod is to go: take nothing new, finish what there is, end. */
  leave(): Promise<void>;
  /** The same as `leave`, but the process stays. */
  drain(): Promise<void>;
}

export interface ProxyKind {
  readonly name: string;
  start(owner: Owner, settings: ProxySettings): Promise<RunningProxy>;
}
