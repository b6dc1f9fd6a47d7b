/**
 * Decides which calls come in on a listener: the rate limit of each caller, the places, the queue and the adaptive
 * limit.
 */
import { Timer, type TimerWheel } from '../clock/timer-wheel.ts';
import { Status, type StatusCode } from '../grpc/status.ts';
import { AdaptiveConcurrency } from '../policy/adaptive-concurrency.ts';
import { AdmissionQueue, type Entry } from '../policy/admission-queue.ts';
import type { QueueSettings, RateLimitSettings } from '../policy/admission-settings.ts';
import { RateLimiter } from '../policy/rate-limit.ts';
import type { PlaceStats } from '../telemetry/call-stats.ts';
import { type EnteringCall, type PlaceGiver, QueuePlace } from './queue-place.ts';
import { type LocalReply, reply } from './reasons.ts';

export interface AdmissionSettings {
  /** Infinity means no limit. */
  readonly maxConcurrentCalls: number;
  readonly adaptiveConcurrency: boolean;
  readonly queue: QueueSettings;
  /** `callsPerSecond` 0 means no limit. */
  readonly rateLimit: RateLimitSettings;
}

export interface AdmissionEnvironment {
  readonly wheel: TimerWheel;
  readonly clock: () => number;
  /** Returns a number in [0, 1). */
  readonly random: () => number;
}

/** The adaptive limit starts at this value and never goes below it. */
const ADAPTIVE_MIN = 3;
const MAX_CALLERS = 10_000;

/** Why a call gets no place; `waited`: its turn did not come in time. */
type Refusal = Exclude<Entry, 'admitted' | 'queued'> | 'waited';

/**
 * Admits, queues or refuses the calls of a listener. A call passes these limits, outermost first:
 *
 *     a rate for each caller → a place of its share, or of the queue → the adaptive limit, which the ends of calls move
 */
export class Admission extends Timer implements PlaceGiver {
  readonly agentType: string;
  private settings: AdmissionSettings;
  private readonly queue: AdmissionQueue<QueuePlace>;
  private adaptive: AdaptiveConcurrency | undefined = undefined;
  private limiter: RateLimiter | undefined = undefined;
  private readonly wheel: TimerWheel;
  private readonly clock: () => number;
  private readonly random: () => number;
  private readonly stats: PlaceStats;
  private lettingIn = false;
  /** The calls that got no place. */
  refused = 0;

  constructor(
    settings: AdmissionSettings,
    environment: AdmissionEnvironment,
    stats: PlaceStats,
    agentType = '',
  ) {
    super();
    this.agentType = agentType;
    this.settings = settings;
    this.wheel = environment.wheel;
    this.clock = environment.clock;
    this.random = environment.random;
    this.stats = stats;
    this.queue = new AdmissionQueue({ limit: 0, maxCalls: 0, maxWaitMs: 0 });
    this.update(settings);
  }

  /** A lower limit ends no call; a higher one admits waiting calls. */
  update(settings: AdmissionSettings): void {
    const { maxConcurrentCalls, adaptiveConcurrency, rateLimit } = settings;
    const sameMax = this.settings.maxConcurrentCalls === maxConcurrentCalls;
    this.settings = settings;
    const min = Math.min(ADAPTIVE_MIN, maxConcurrentCalls);
    if (!adaptiveConcurrency) this.adaptive = undefined;
    else if (this.adaptive === undefined || !sameMax)
      this.adaptive = new AdaptiveConcurrency({ min, max: maxConcurrentCalls });
    const { callsPerSecond, burst } = rateLimit;
    if (callsPerSecond === 0) this.limiter = undefined;
    else if (this.limiter === undefined)
      this.limiter = new RateLimiter({ callsPerSecond, burst, maxCallers: MAX_CALLERS });
    else this.limiter.settings = { callsPerSecond, burst, maxCallers: MAX_CALLERS };
    this.setLimit();
    this.letIn(this.clock());
  }

  private setLimit(): void {
    const { queue, maxConcurrentCalls } = this.settings;
    const limit = this.adaptive?.limit ?? maxConcurrentCalls;
    this.queue.settings = { ...queue, limit };
    this.show();
  }

  /** The number of calls that may run at a time now. */
  get limit(): number {
    return this.queue.settings.limit;
  }

  /** Counts a call against the rate of its caller. @returns the answer to a call beyond it */
  limitRate({ caller }: EnteringCall, nowMs: number): LocalReply | undefined {
    const waitMs = this.limiter?.take(caller.name, nowMs) ?? 0;
    if (waitMs === 0) return undefined;
    const message = `this caller may make ${this.settings.rateLimit.callsPerSecond} calls a second (inbound.rate_limit)`;
    return reply('rate_limited', message, waitMs);
  }

  /**
   * The caller must call `giveBack` of its place for each `admitted` or `queued` call, and must end a call with the reply if it gets
   * one.
   */
  enter(call: EnteringCall, nowMs: number): 'admitted' | 'queued' | LocalReply {
    const place = new QueuePlace(call, this);
    const entry = this.queue.enter(place, nowMs);
    if (entry !== 'admitted' && entry !== 'queued') return this.refusal(entry, place);
    call.place = place;
    if (entry === 'admitted') {
      place.admittedAtMs = nowMs;
      return entry;
    }
    this.show();
    if (!this.armed) this.wheel.arm(this, this.queue.overdueAtMs);
    return entry;
  }

  /** Calls that run. */
  get active(): number {
    return this.queue.active;
  }

  /** Calls that wait. */
  get queued(): number {
    return this.queue.queued;
  }

  private refusal(entry: Refusal, place: QueuePlace): LocalReply {
    this.refused++;
    const message = `${this.fullness(place)}, and ${this.whyRefused(entry, place)}`;
    return reply('overloaded', message, this.queue.pushbackMs(this.random()));
  }

  private whyRefused(entry: Refusal, place: QueuePlace): string {
    const { maxCalls, maxWaitMs } = this.queue.settings;
    const waitMs = Math.round(this.queue.waitMs(place));
    switch (entry) {
      case 'no_room':
        return maxCalls === 0 ? 'none may wait' : `${this.queue.queued} wait`;
      case 'waited':
        return `its turn has not come within ${this.setting('queue.max_wait')} (${maxWaitMs} ms)`;
      case 'no_time':
        return `in the time this call has left its turn would not come: about ${waitMs} ms`;
      case 'too_long':
        return `its turn would come in about ${waitMs} ms, longer than ${this.setting('queue.max_wait')}`;
      default:
        return entry satisfies never;
    }
  }

  private setting(key: string): string {
    return this.agentType === '' ? `inbound.${key}` : `inbound.agent_types.${this.agentType}.${key}`;
  }

  private fullness({ callerCalls }: QueuePlace): string {
    const { active, settings } = this.queue;
    const { limit } = settings;
    const calls = this.agentType === '' ? 'calls' : `calls of ${this.agentType}`;
    if (active >= limit) return `${limit} ${calls} are in flight, which is the limit`;
    const { held } = callerCalls.active;
    return `${held} ${calls} of this caller are in flight, which is its share of ${limit} while others may come`;
  }

  leave(place: QueuePlace, status: StatusCode, nowMs: number): void {
    if (place.admittedAtMs === 0) {
      this.queue.cancel(place, nowMs);
      this.show();
      return;
    }
    const serviceMs = nowMs - place.admittedAtMs;
    place.admittedAtMs = 0;
    this.adapt(status, serviceMs);
    this.queue.leave(place, serviceMs);
    this.letIn(nowMs);
  }

  private adapt(status: StatusCode, serviceMs: number): void {
    const { adaptive } = this;
    if (adaptive === undefined) return;
    if (status === Status.OK) adaptive.record(serviceMs, this.queue.active);
    else if (status === Status.DEADLINE_EXCEEDED || status === Status.RESOURCE_EXHAUSTED)
      adaptive.recordDrop(this.queue.active);
    else return;
    if (adaptive.limit !== this.queue.settings.limit) this.setLimit();
  }

  private letIn(nowMs: number): void {
    // The usual case at the end of a call.
    if (this.queue.queued === 0) return;
    // A call that ends as soon as it is admitted comes back here; the loop below continues with the next one.
    if (this.lettingIn) return;
    this.lettingIn = true;
    for (;;) {
      const late = this.queue.expired(nowMs);
      if (late !== undefined) {
        late.call.answer(this.refusal('no_time', late));
        continue;
      }
      const next = this.queue.next(nowMs);
      if (next === undefined) {
        const overdue = this.queue.overdue(nowMs);
        if (overdue === undefined) break;
        overdue.call.answer(this.refusal('waited', overdue));
        continue;
      }
      next.admittedAtMs = nowMs;
      next.call.onAdmitted();
    }
    this.lettingIn = false;
    this.show();
  }

  /**
   * The end of a call serves the queue. The timer does, too, because the calls that hold places may be streams that run
   * for hours.
   */
  override onTimeout(nowMs: number): void {
    this.letIn(nowMs);
    const { overdueAtMs } = this.queue;
    if (overdueAtMs < Number.POSITIVE_INFINITY) this.wheel.arm(this, overdueAtMs);
  }

  private show(): void {
    this.stats.queuedCalls = this.queue.queued;
    this.stats.concurrencyLimit = this.limit;
  }
}
