/** Checks single gRPC services of the local app on request. */
import type { TimerWheel } from '../../clock/timer-wheel.ts';
import type { Cluster } from '../cluster.ts';
import { grpcHealth } from './health-request.ts';
import { HealthProbe, type ProbeResult } from './probe.ts';

/** The most services probed at a time: a kubelet probe names one, and every client that reaches the pod may send some. */
const MAX_CHECKS = 16;

/**
 * Asks the local app for the health of one of its own services (`grpc.health.v1`) on request. Requests for a service whose
 * probe is running share its result.
 */
export class AppServiceHealth {
  private readonly cluster: Cluster;
  private readonly wheel: TimerWheel;
  private readonly clock: () => number;
  private readonly running = new Map<string, { probe: HealthProbe; answer: Promise<ProbeResult> }>();

  constructor(cluster: Cluster, wheel: TimerWheel, clock: () => number) {
    this.cluster = cluster;
    this.wheel = wheel;
    this.clock = clock;
  }

  /** @returns the result of one probe, within twice `timeoutMs`: once for the answer, once for a sign of life */
  check(service: string, timeoutMs: number): Promise<ProbeResult> {
    const same = this.running.get(service);
    if (same !== undefined) return same.answer;
    const endpoint = this.cluster.endpoints[0];
    if (endpoint === undefined) return Promise.resolve('unreachable');
    if (this.running.size >= MAX_CHECKS) return Promise.resolve('turned_away');
    const { promise, resolve } = Promise.withResolvers<ProbeResult>();
    const probe = new HealthProbe(endpoint, this.wheel, timeoutMs, grpcHealth(service), (result) => {
      this.running.delete(service);
      resolve(result);
    });
    this.running.set(service, { probe, answer: promise });
    probe.start(this.clock());
    return promise;
  }

  stop(): void {
    for (const { probe } of this.running.values()) probe.cancel();
    this.running.clear();
  }
}
