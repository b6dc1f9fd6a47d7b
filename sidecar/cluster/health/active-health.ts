/** Active health checks of the endpoints of a cluster. */
import { Timer, type TimerWheel } from '../../clock/timer-wheel.ts';
import { Status, type StatusCode, statusName } from '../../grpc/status.ts';
import type { Endpoint } from '../endpoint.ts';
import type { HealthCheckSettings } from './health-check-settings.ts';
import { AGENT_HEALTH, grpcHealth, type HealthRequest } from './health-request.ts';
import { HealthProbe, type ProbeResult } from './probe.ts';
import { findingOf, type HealthState, HealthThreshold } from './threshold.ts';

export const HEALTH_CHECK_OFF: HealthCheckSettings = {
  intervalMs: 0,
  timeoutMs: 2_000,
  unhealthyThreshold: 3,
  healthyThreshold: 2,
  service: '',
  protocol: 'grpc',
};

/** The most checks of one cluster that run at a time; more wait for their turn. */
const MAX_RUNNING = 16;
/** The first checks of endpoints that were added together are spread over this time. */
const FIRST_SPREAD_MS = 1_000;
const JITTER = 0.1;

export interface ActiveHealthEnvironment {
  readonly wheel: TimerWheel;
  readonly clock: () => number;
  readonly random: () => number;
  /** Called after each check with a finding; `changed` when the endpoint's state changed. */
  onChecked(endpoint: Endpoint, check: EndpointCheck, changed: boolean): void;
}

/** The checks of one endpoint: their timer and their results. */
export class EndpointCheck extends Timer {
  readonly endpoint: Endpoint;
  readonly threshold = new HealthThreshold();
  /** The result of the last check, as text for logs and pages. */
  detail = '';
  /** The last check with a finding passed. */
  passes = false;
  /** When the last check ended. */
  checkedAtMs = Number.NEGATIVE_INFINITY;
  startedAtMs = Number.NEGATIVE_INFINITY;
  probe: HealthProbe | undefined = undefined;
  /** The probe before: a stopped endpoint gets no further probe until it sends something. */
  lastProbe: HealthProbe | undefined = undefined;
  private readonly onDue: (check: EndpointCheck) => void;

  constructor(endpoint: Endpoint, onDue: (check: EndpointCheck) => void) {
    super();
    this.endpoint = endpoint;
    this.onDue = onDue;
  }

  get state(): HealthState {
    return this.threshold.state;
  }

  override onTimeout(): void {
    this.onDue(this);
  }
}

/**
 * Checks the health of a cluster's endpoints at intervals, whether they have calls or not. A check uses the connection that
 * calls use, because that is the one that must work. It is not a call, and counts in no statistic and no policy. The
 * cluster decides what the result means for the endpoint.
 */
export class ActiveHealth {
  private readonly environment: ActiveHealthEnvironment;
  private settings: HealthCheckSettings = HEALTH_CHECK_OFF;
  private request: HealthRequest = AGENT_HEALTH;
  private readonly checks = new Map<Endpoint, EndpointCheck>();
  private readonly running = new Set<EndpointCheck>();
  /** Checks that are due while as many as may are running, in the order in which they became due. */
  private readonly waiting = new Set<EndpointCheck>();
  private startingNext = false;

  constructor(environment: ActiveHealthEnvironment) {
    this.environment = environment;
  }

  /** Returns the check of an endpoint; undefined when its health is not checked. */
  of(endpoint: Endpoint): EndpointCheck | undefined {
    return this.checks.get(endpoint);
  }

  /**
   * Checks these endpoints, and no others, by these settings. Earlier results stay when the settings change.
   *
   * @returns the endpoints that are no longer checked
   */
  update(settings: HealthCheckSettings, endpoints: readonly Endpoint[]): readonly Endpoint[] {
    const { intervalMs: intervalBefore } = this.settings;
    this.settings = settings;
    this.request = settings.protocol === 'agent' ? AGENT_HEALTH : grpcHealth(settings.service);
    const wanted = new Set(settings.intervalMs === 0 ? [] : endpoints);
    const gone: Endpoint[] = [];
    for (const [endpoint, check] of this.checks) {
      if (wanted.has(endpoint)) {
        // A check that was due in an hour must not delay a new interval of a second.
        if (settings.intervalMs < intervalBefore && check.armed) this.schedule(check, FIRST_SPREAD_MS);
        continue;
      }
      this.stop(check);
      gone.push(endpoint);
    }
    this.startNext();
    for (const endpoint of wanted) {
      if (this.checks.has(endpoint)) continue;
      const check = new EndpointCheck(endpoint, (due) => this.onDue(due));
      this.checks.set(endpoint, check);
      this.schedule(check, FIRST_SPREAD_MS);
    }
    return gone;
  }

  /** Arms the check at a random time within the spread, or within an interval if that is shorter. */
  private schedule(check: EndpointCheck, spreadMs: number): void {
    const { wheel, clock, random } = this.environment;
    wheel.arm(check, clock() + random() * Math.min(spreadMs, this.settings.intervalMs));
  }

  private stop(check: EndpointCheck): void {
    this.checks.delete(check.endpoint);
    this.environment.wheel.cancel(check);
    check.probe?.cancel();
    check.probe = undefined;
    this.waiting.delete(check);
    this.running.delete(check);
  }

  private onDue(check: EndpointCheck): void {
    if (this.running.size >= MAX_RUNNING) this.waiting.add(check);
    else this.start(check);
  }

  /** A check can end within `start`, which calls this again: the guard leaves the next check to the running loop. */
  private startNext(): void {
    if (this.startingNext) return;
    this.startingNext = true;
    for (const next of this.waiting) {
      if (this.running.size >= MAX_RUNNING) break;
      this.waiting.delete(next);
      this.start(next);
    }
    this.startingNext = false;
  }

  private start(check: EndpointCheck): void {
    const { wheel, clock } = this.environment;
    const { endpoint, lastProbe } = check;
    this.running.add(check);
    check.startedAtMs = clock();
    // While calls use the connection, only keepalive may close it.
    if (lastProbe?.stillSilent === true && !lastProbe.giveUpConnection()) {
      this.finish(check, 'unreachable', undefined);
      return;
    }
    const { timeoutMs } = this.settings;
    const probe = new HealthProbe(endpoint, wheel, timeoutMs, this.request, (result, status) =>
      this.finish(check, result, status),
    );
    check.probe = probe;
    check.lastProbe = probe;
    probe.start(check.startedAtMs);
  }

  private finish(check: EndpointCheck, result: ProbeResult, status: StatusCode | undefined): void {
    const { wheel, clock, random } = this.environment;
    const { intervalMs } = this.settings;
    const nowMs = clock();
    check.probe = undefined;
    check.checkedAtMs = nowMs;
    this.running.delete(check);
    wheel.arm(
      check,
      Math.max(check.startedAtMs + intervalMs * (1 - JITTER + 2 * JITTER * random()), nowMs + 1),
    );
    this.startNext();
    const finding = findingOf(result, status);
    check.detail = describe(result, status);
    if (finding === 'nothing') return;
    const before = check.state;
    check.threshold.record(finding, this.settings);
    check.passes = finding === 'passes';
    this.environment.onChecked(check.endpoint, check, check.state !== before);
  }

  close(): void {
    this.update(HEALTH_CHECK_OFF, []);
  }
}

function describe(result: ProbeResult, status: StatusCode | undefined): string {
  switch (result) {
    case 'serving':
      return 'its health check passes';
    case 'busy':
      return 'its HTTP/2 answers, but its health check gets no answer in time';
    case 'turned_away':
      return 'it had no room for a health check';
    case 'unreachable':
      return 'its health check gets no answer';
    case 'not_serving':
    case 'no_health_service':
      break;
    default:
      return result satisfies never;
  }
  if (status === undefined) return 'its health check gets an answer that is not gRPC';
  if (result === 'not_serving' && status === Status.OK) return 'its health check says that it does not serve';
  return `its health check gets the answer ${statusName(status)}`;
}
