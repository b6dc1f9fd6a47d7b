/** The places of a listener: those of each agent type that has its own, and those that all other calls share. */
import type { QueueSettings } from '../policy/admission-settings.ts';
import type { PlaceStats } from '../telemetry/call-stats.ts';
import { Admission, type AdmissionEnvironment, type AdmissionSettings } from './admission.ts';
import type { EnteringCall } from './queue-place.ts';
import type { LocalReply } from './reasons.ts';

export interface AdmissionsSettings extends AdmissionSettings {
  /** The agents that the app serves side by side, by agent type. */
  readonly agentTypes: ReadonlyMap<
    string,
    { readonly maxConcurrentCalls: number; readonly queue: QueueSettings }
  >;
}

/** A caller has one rate for all agents together. */
const NO_RATE = { callsPerSecond: 0, burst: 1 };

export class Admissions {
  private readonly others: Admission;
  private readonly environment: AdmissionEnvironment;
  private byAgentType = new Map<string, Admission>();

  /** @param stats follows the places that all other calls share */
  constructor(settings: AdmissionsSettings, environment: AdmissionEnvironment, stats: PlaceStats) {
    this.environment = environment;
    this.others = new Admission(settings, environment, stats);
    this.update(settings);
  }

  /** Calls of an agent type that loses its places keep theirs to their end. */
  update(settings: AdmissionsSettings): void {
    this.others.update(settings);
    const { adaptiveConcurrency } = settings;
    const byAgentType = new Map<string, Admission>();
    for (const [agentType, { maxConcurrentCalls, queue }] of settings.agentTypes) {
      const own = { maxConcurrentCalls, queue, adaptiveConcurrency, rateLimit: NO_RATE };
      let admission = this.byAgentType.get(agentType);
      if (admission === undefined) admission = this.create(own, agentType);
      else admission.update(own);
      byAgentType.set(agentType, admission);
    }
    this.byAgentType = byAgentType;
  }

  private create(settings: AdmissionSettings, agentType: string): Admission {
    const stats = { queuedCalls: 0, concurrencyLimit: settings.maxConcurrentCalls };
    return new Admission(settings, this.environment, stats, agentType);
  }

  /** Whether the calls of this agent type have places of their own. */
  has(agentType: string): boolean {
    return this.byAgentType.has(agentType);
  }

  /** The agent types with places of their own. */
  get agentTypes(): Iterable<Admission> {
    return this.byAgentType.values();
  }

  /** See {@link Admission.enter}. @param agentType '' for a call without one */
  enter(call: EnteringCall, agentType: string, nowMs: number): 'admitted' | 'queued' | LocalReply {
    const { others, byAgentType } = this;
    const beyondRate = others.limitRate(call, nowMs);
    if (beyondRate !== undefined) return beyondRate;
    const admission = byAgentType.size === 0 ? others : (byAgentType.get(agentType) ?? others);
    return admission.enter(call, nowMs);
  }
}
