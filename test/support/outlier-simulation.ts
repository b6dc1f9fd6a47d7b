// A cluster of agents on a virtual clock, with the real balancer and the real outlier detector, for hours of
// traffic in a second.

import { EventQueue } from '../../scripts/harness/event-queue.ts';
import type { BalancerKind } from '../../sidecar/cluster/balancer/balancer.ts';
import { createBalancer } from '../../sidecar/cluster/balancer/create-balancer.ts';
import { observeFailure, observeLatency } from '../../sidecar/cluster/balancer/rtt.ts';
import {
  OutlierDetector,
  type OutlierEvent,
  WatchedAttempt,
  type WatchedEndpoint,
} from '../../sidecar/cluster/outlier/detector.ts';
import type { OutlierSettings } from '../../sidecar/cluster/outlier/outlier-settings.ts';
import { endpointAt, type TestEndpoint } from './balancer-simulation.ts';
import { seededRandom } from './seeded-random.ts';

export const DEFAULTS: OutlierSettings = {
  consecutiveFailures: 3,
  intervalMs: 30_000,
  baseEjectionTimeMs: 30_000,
  maxEjectionTimeMs: 300_000,
  maxEjectionPercent: 50,
};

/** How a replica treats one call. */
interface Treatment {
  /** To the first message; Infinity for never. */
  readonly latencyMs: number;
  readonly fails: boolean;
  /** From the first message to the end; a stream that `fails` then is cut, or ends with an error in its trailers. */
  readonly streamMs?: number;
}

export type Replica = (nowMs: number, random: () => number) => Treatment;

export interface Scenario {
  readonly replicas: readonly Replica[];
  readonly callsPerSecond: number;
  readonly balancer?: BalancerKind;
  readonly deadlineMs?: number;
  readonly settings?: Partial<OutlierSettings>;
  readonly seed?: number;
}

interface Member {
  readonly replica: Replica;
  readonly watched: WatchedEndpoint;
  readonly load: TestEndpoint;
  calls: number;
  failures: number;
}

/** A log-normal latency: `sigma` 0.5 is a steady model, 1 one whose p99 is ten times its median. */
export function logNormal(medianMs: number, sigma: number, random: () => number): number {
  const radius = Math.sqrt(-2 * Math.log(1 - random()));
  return medianMs * Math.exp(sigma * radius * Math.cos(2 * Math.PI * random()));
}

export class OutlierSimulation {
  readonly detector: OutlierDetector;
  readonly members: Member[];
  readonly events: (OutlierEvent & { readonly atMs: number })[] = [];
  private readonly balancer;
  private readonly scenario: Scenario;
  private readonly random: () => number;
  private readonly queue = new EventQueue();
  private tickAtMs = Number.POSITIVE_INFINITY;
  nowMs = 1_000;
  mostEjected = 0;

  constructor(scenario: Scenario) {
    this.scenario = scenario;
    this.random = seededRandom(scenario.seed ?? 1);
    this.balancer = createBalancer(scenario.balancer ?? 'peak_ewma');
    this.detector = new OutlierDetector({ ...DEFAULTS, ...scenario.settings });
    this.members = scenario.replicas.map((replica, i) => {
      const watched = this.detector.add(`10.0.0.${i}:50051`);
      const load = endpointAt(watched.address);
      watched.onAdmitsChange = () => {
        load.usable = watched.admits;
      };
      return { replica, watched, load, calls: 0, failures: 0 };
    });
    this.balancer.update?.(this.members.map(({ load }) => load));
    this.queue.at(this.nowMs + this.gapMs(), () => this.arrive());
  }

  private gapMs(): number {
    return (-Math.log(1 - this.random()) * 1000) / this.scenario.callsPerSecond;
  }

  run(durationMs: number): this {
    const endMs = this.nowMs + durationMs;
    for (;;) {
      const next = this.queue.nextAtMs;
      if (Math.min(next, this.tickAtMs) > endMs) break;
      if (this.tickAtMs <= next) {
        this.nowMs = this.tickAtMs;
        for (const event of this.detector.tick(this.nowMs)) this.note(event);
        this.tickAtMs = this.detector.nextAtMs(this.nowMs);
      } else {
        this.nowMs = next;
        this.queue.runNext();
        this.tickAtMs = Math.min(this.tickAtMs, this.detector.nextAtMs(this.nowMs));
      }
    }
    this.nowMs = endMs;
    return this;
  }

  private note(event: OutlierEvent | undefined): void {
    if (event === undefined) return;
    this.events.push({ ...event, atMs: this.nowMs });
    this.mostEjected = Math.max(this.mostEjected, this.detector.ejected);
  }

  private arrive(): void {
    this.queue.at(this.nowMs + this.gapMs(), () => this.arrive());
    const loads = this.members.map(({ load }) => load);
    const picked = this.balancer.pick(loads, { hash: 0, avoid: undefined }, this.random, this.nowMs);
    const member = this.members.find(({ load }) => load === picked);
    if (member !== undefined) this.call(member);
  }

  private call(member: Member): void {
    const { detector } = this;
    const { watched, load } = member;
    const startMs = this.nowMs;
    const deadlineMs = this.scenario.deadlineMs ?? 60_000;
    const { latencyMs, fails, streamMs = 0 } = member.replica(startMs, this.random);
    const attempt = new WatchedAttempt(watched);
    member.calls++;
    load.activeCalls++;
    detector.begin(attempt, startMs);
    detector.awaitAnswer(attempt, '/agent.AgentService/ProcessTask', startMs);
    const end = (failed: boolean): void => {
      load.activeCalls--;
      if (failed) {
        member.failures++;
        observeFailure(load, this.nowMs - startMs, this.nowMs);
      }
      this.note(detector.end(attempt, failed ? 'failure' : 'success', this.nowMs));
    };
    if (latencyMs > deadlineMs) {
      this.queue.at(startMs + deadlineMs, () => end(true));
    } else if (fails && streamMs === 0) {
      this.queue.at(startMs + latencyMs, () => end(true));
    } else {
      this.queue.at(startMs + latencyMs, () => {
        observeLatency(load, this.nowMs - startMs, this.nowMs);
        this.note(detector.answered(attempt, '/agent.AgentService/ProcessTask', this.nowMs));
        if (streamMs === 0) end(false);
        else this.queue.at(this.nowMs + streamMs, () => end(fails));
      });
    }
  }

  ejections(address?: string): (OutlierEvent & { readonly atMs: number })[] {
    return this.events.filter(
      ({ kind, endpoint }) => kind === 'ejected' && (address === undefined || endpoint.address === address),
    );
  }
}
