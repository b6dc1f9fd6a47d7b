/** What KEDA gets for a trigger: whether there is work, and the metric's value. */
import { LogUnavailableError } from '../../bus/log/log-errors.ts';
import type { Fleet } from './fleet.ts';
import type { PodSelection, Trigger } from './trigger.ts';

export interface AnswerSources {
  /** Tasks of a type that wait and run; rejects with LogUnavailableError. Undefined without a bus. */
  readonly tasksOf: ((agentType: string, maxAgeMs?: number) => Promise<number>) | undefined;
  readonly fleetOf: (selection: PodSelection) => Fleet;
}

export class Answers {
  private readonly sources: AnswerSources;

  constructor(sources: AnswerSources) {
    this.sources = sources;
  }

  /** Rejects while it is not known. @param maxAgeMs of what the bus has said */
  async isActive(trigger: Trigger, maxAgeMs?: number): Promise<boolean> {
    if (trigger.metric === 'queue')
      return (await this.tasksOf(trigger.agentType, maxAgeMs)) > trigger.activation;
    const fleet = this.sources.fleetOf(trigger.pods);
    await fleet.measure();
    return fleet.isActive(trigger.windowMs);
  }

  /** Rejects while it is not known: neither 0 nor any other number would be right then. */
  async value(trigger: Trigger): Promise<{ readonly value: number; readonly isHeld: boolean }> {
    if (trigger.metric === 'queue') {
      const { pods, target, agentType } = trigger;
      // A request for the queue has the pods measured, too, while there is nothing to hold.
      if (pods !== undefined) this.sources.fleetOf(pods);
      const tasks = await this.tasksOf(agentType);
      const held = pods === undefined || tasks === 0 ? undefined : await this.heldReplicas(pods);
      return held === undefined ? { value: tasks, isHeld: false } : { value: target * held, isHeld: true };
    }
    const fleet = this.sources.fleetOf(trigger.pods);
    await fleet.measure();
    const seconds = fleet.p99(trigger.windowMs);
    // The target keeps the replicas as they are. Nobody knows how long the first calls will have taken.
    if (seconds === 'busy') return { value: trigger.target, isHeld: false };
    if (seconds > 0 && (await this.heldReplicas(trigger.pods)) !== undefined)
      return { value: trigger.target, isHeld: true };
    return { value: seconds, isHeld: false };
  }

  /** The replicas there are, if more of them would only wait for the provider, too. */
  private async heldReplicas(selection: PodSelection): Promise<number | undefined> {
    const fleet = this.sources.fleetOf(selection);
    await fleet.measure();
    const { replicas } = fleet;
    return replicas !== undefined && replicas > 0 && fleet.isProviderBound ? replicas : undefined;
  }

  private tasksOf(agentType: string, maxAgeMs?: number): Promise<number> {
    const { tasksOf } = this.sources;
    if (tasksOf === undefined)
      throw new LogUnavailableError(
        'this scaler has no bus to ask; set bus.url, in the file that --config names or by --bus.url',
        false,
      );
    return tasksOf(agentType, maxAgeMs);
  }
}
