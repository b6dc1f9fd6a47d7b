/** The policies of one cluster, what they remember, and the latencies of its methods. */
import type { Cluster, EndpointPolicies } from '../cluster/cluster.ts';
import type { CircuitBreakerSettings } from '../policy/circuit-breaker-settings.ts';
import { CircuitBreakers } from '../policy/circuit-breakers.ts';
import type { CircuitTransition } from '../policy/circuit-state.ts';
import type { HedgeSettings } from '../policy/hedge-settings.ts';
import { LatencyPercentiles } from '../policy/percentile.ts';
import { RetryPolicy } from '../policy/retry.ts';
import { RetryBudget } from '../policy/retry-budget.ts';
import type { AllRetrySettings, RetrySettings } from '../policy/retry-settings.ts';
import type { TaskSettings } from '../policy/task-settings.ts';
import type { TimeLimits } from '../policy/time-limit-settings.ts';

/** Receives the decisions of policies, for `/events` and the log. */
export interface PolicyEvents {
  /** @param method the path of the circuit that changed */
  onCircuit(cluster: Cluster, method: string, transition: CircuitTransition): void;
}

/** The settings of one cluster's policies. */
export interface PolicySettings extends TimeLimits {
  readonly circuitBreaker: CircuitBreakerSettings;
  readonly retry: RetrySettings & Pick<AllRetrySettings, 'perTryTimeoutMs' | 'budget'>;
  readonly hedge: HedgeSettings;
  readonly task: TaskSettings;
  /** Set where calls become tasks on the bus: how long they take says nothing about the next one. */
  readonly bus?: string | undefined;
}

export interface PolicyEnvironment {
  readonly random: () => number;
  readonly events: PolicyEvents;
}

/** The number of methods whose latencies are tracked; the others have no usual latency. */
const MAX_METHODS = 256;
/** The percentile that counts as "usual" in verdicts, and the one that retries use. */
const USUAL_PERCENT = 95;
const MEDIAN_PERCENT = 50;
/** Only the quickest answers meet this percentile: a call with less time left is not worth sending. */
const QUICKEST_PERCENT = 5;
/** One in so many calls that this rule would refuse is sent all the same: the agent may have become faster. */
const HOPELESS_PROBES = 8;
/** The quickest latency is computed anew after so many answers. */
const QUICKEST_REFRESH = 16;

/** `count` of the latest answers are known, and `at` gives their percentiles; `at` returns 0 while there are too few. */
export type AnswerTimes = Pick<MethodLatencies, 'answers' | 'answersMs' | 'count' | 'at'>;

class MethodLatencies extends LatencyPercentiles {
  quickestMs = 0;
  hopeless = 0;
  private untilRefresh = 0;
  /** All answers so far, and the sum of their durations. */
  answers = 0;
  answersMs = 0;

  override record(latencyMs: number, nowMs: number): void {
    super.record(latencyMs, nowMs);
    this.answers++;
    this.answersMs += latencyMs;
    if (--this.untilRefresh > 0) return;
    this.untilRefresh = QUICKEST_REFRESH;
    this.quickestMs = this.at(QUICKEST_PERCENT);
  }
}

/** The policies of one cluster and their state; they live as long as the cluster does. */
export class ClusterPolicies implements EndpointPolicies {
  readonly breakers: CircuitBreakers;
  readonly budget: RetryBudget;
  retry: RetryPolicy;
  settings: PolicySettings;
  private readonly latencies = new Map<string, MethodLatencies>();
  private readonly onCircuit: (method: string, transition: CircuitTransition) => void;

  constructor(
    settings: PolicySettings,
    random: () => number,
    onCircuit: (method: string, transition: CircuitTransition) => void,
  ) {
    this.settings = settings;
    this.onCircuit = onCircuit;
    this.breakers = new CircuitBreakers(settings.circuitBreaker, random);
    this.budget = new RetryBudget(settings.retry.budget);
    this.retry = new RetryPolicy(settings.retry, this.budget);
  }

  update(settings: PolicySettings, nowMs: number): void {
    this.settings = settings;
    this.breakers.update(settings.circuitBreaker, nowMs, this.onCircuit);
    this.budget.settings = settings.retry.budget;
    this.retry = new RetryPolicy(settings.retry, this.budget);
  }

  callsWait(nowMs: number): boolean {
    return this.breakers.awaitsEndpoint(nowMs);
  }

  onEndpointBack(nowMs: number): void {
    this.breakers.endpointBack(nowMs, this.onCircuit);
  }

  onEndpointAbsent(): void {
    this.breakers.endpointAbsent();
  }

  onEndpointsSince(sinceMs: number, nowMs: number): void {
    this.breakers.endpointsSince(sinceMs, nowMs, this.onCircuit);
  }

  /** Records the time to the first message of an attempt with a verdict of success. */
  recordLatency(method: string, latencyMs: number, nowMs: number): void {
    let latencies = this.latencies.get(method);
    if (latencies === undefined) {
      if (this.latencies.size >= MAX_METHODS) return;
      latencies = new MethodLatencies();
      this.latencies.set(method, latencies);
    }
    latencies.record(latencyMs, nowMs);
  }

  /** The latency that nearly all answers of the method stay within, over all endpoints; 0 when unknown. */
  usualLatencyMs(method: string): number {
    return this.latencies.get(method)?.at(USUAL_PERCENT) ?? 0;
  }

  /**
   * The shortest time, in milliseconds, that an answer of the method takes, if a call with `leftMs` left can't be
   * answered in time by all that is known; 0 when the call is worth a try.
   */
  hopelessBelowMs(method: string, leftMs: number): number {
    const latencies = this.settings.bus === undefined ? this.latencies.get(method) : undefined;
    if (latencies === undefined || leftMs >= latencies.quickestMs) return 0;
    return ++latencies.hopeless % HOPELESS_PROBES === 0 ? 0 : latencies.quickestMs;
  }

  latencyAt(method: string, percent: number): number {
    return this.latencies.get(method)?.at(percent) ?? 0;
  }

  /** The methods whose latencies are known. */
  followedMethods(): Iterable<string> {
    return this.latencies.keys();
  }

  /** The known latencies of a method; undefined before its first answer. */
  latenciesOf(method: string): AnswerTimes | undefined {
    return this.latencies.get(method);
  }

  medianLatencyMs(method: string): number {
    return this.latencies.get(method)?.at(MEDIAN_PERCENT) ?? 0;
  }
}

/** A cluster that receives calls: the policies of the calls come with it. */
export type ClusterWithPolicies = Cluster<ClusterPolicies>;

/** The clusters of single agent types, by the name of the cluster whose endpoints serve them, and by agent type. */
export type AgentTypeClusters = ReadonlyMap<string, ReadonlyMap<string, ClusterWithPolicies>>;

/** Creates the policies of a new cluster. */
export function createPolicies(
  cluster: Cluster,
  settings: PolicySettings,
  { random, events }: PolicyEnvironment,
): ClusterPolicies {
  return new ClusterPolicies(settings, random, (method, change) => events.onCircuit(cluster, method, change));
}
