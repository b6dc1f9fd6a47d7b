/** Holds the limits of each upstream, and of each rule of `llm.models`; a reload keeps what they have let in. */
import type { TimerWheel } from '../../clock/timer-wheel.ts';
import type { LlmModelSettings, LlmSettings, PlaceLimitSettings } from '../shared/llm-settings.ts';
import type { FairLimits } from './fair-limiter.ts';
import { MinuteGate } from './minute-gate.ts';

export class PlaceGates {
  private readonly byName = new Map<string, MinuteGate>();
  private readonly wheel: TimerWheel;
  private readonly clock: () => number;

  constructor(settings: LlmSettings, wheel: TimerWheel, clock: () => number) {
    this.wheel = wheel;
    this.clock = clock;
    this.apply(settings);
  }

  /** Limits that are gone let in whoever waits for them. */
  apply({ upstreams, models, replicas }: LlmSettings): void {
    const wanted = new Map<string, FairLimits>();
    for (const { name, limits } of upstreams) wanted.set(ofUpstream(name), partOf(limits, replicas));
    for (const rule of models) wanted.set(ruleName(rule), partOf(rule.limits, replicas));
    for (const [name, gate] of this.byName) if (!wanted.has(name)) gate.setLimits(NONE);
    for (const [name, limits] of wanted) {
      const known = this.byName.get(name);
      if (known !== undefined) known.setLimits(limits);
      else if (isLimit(limits)) this.byName.set(name, new MinuteGate(limits, this.wheel, this.clock));
    }
  }

  /** Undefined without limits. */
  upstream(name: string): MinuteGate | undefined {
    return this.limiting(ofUpstream(name));
  }

  /** The same for a rule. @param name by {@link ruleName}; '' for a request of no rule */
  rule(name: string): MinuteGate | undefined {
    return this.limiting(name);
  }

  /** The number of requests that wait for limits. */
  get waiting(): number {
    let waiting = 0;
    for (const gate of this.byName.values()) waiting += gate.waiting;
    return waiting;
  }

  close(): void {
    for (const gate of this.byName.values()) gate.close();
  }

  private limiting(name: string): MinuteGate | undefined {
    const gate = this.byName.get(name);
    return gate?.limits === true ? gate : undefined;
  }
}

/** Distinguishes the rules of `llm.models`. */
export function ruleName({ match, operations }: Pick<LlmModelSettings, 'match' | 'operations'>): string {
  return `model ${match} ${operations.join()}`;
}

function ofUpstream(name: string): string {
  return `upstream ${name}`;
}

const NONE: FairLimits = { requestsPerMinute: 0, tokensPerMinute: 0 };

function isLimit({ requestsPerMinute, tokensPerMinute, concurrent = 0 }: FairLimits): boolean {
  return requestsPerMinute > 0 || tokensPerMinute > 0 || concurrent > 0;
}

/** The part of one replica, and at least 1: none at all would be no limit. */
function partOf(limits: PlaceLimitSettings, replicas: number): FairLimits {
  const part = (limit: number): number => (limit === 0 ? 0 : Math.max(1, Math.floor(limit / replicas)));
  return {
    requestsPerMinute: part(limits.requestsPerMinute),
    tokensPerMinute: part(limits.tokensPerMinute),
    concurrent: part(limits.concurrent),
    maxWaiting: limits.maxWaiting,
  };
}
