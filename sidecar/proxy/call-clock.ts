/** The time limits of a call: its deadline, its limit of silence, and its caller's moment after the answer. */
import { Timer, type TimerWheel } from '../clock/timer-wheel.ts';
import {
  allowedMs,
  type DeadlineOwner,
  deadlineOwner,
  deadlineReached,
  idleTimeoutMs,
  type MethodKind,
} from '../policy/deadline.ts';
import type { TimeLimits } from '../policy/time-limit-settings.ts';
import { IdleClock } from './idle-clock.ts';

/** The call that a clock limits. */
export interface ClockedCall {
  readonly context: { readonly wheel: TimerWheel; readonly clock: () => number };
  readonly info: { readonly timeoutMs: number; readonly kind: MethodKind };
  readonly startedAtMs: number;
  /** The deadline passed or, if the call is over, the moment after its answer. */
  onTimeout(nowMs: number): void;
  /** Neither side has sent anything for the idle timeout. */
  onIdle(): void;
}

/** The facts of a call's time limits that other files read. */
export interface CallTime {
  /** On the listener's clock; 0 without a deadline. */
  readonly deadlineMs: number;
  readonly deadlineOwner: DeadlineOwner;
  /** See {@link CallClock.allowedMs}. */
  readonly allowedMs: number;
  callersTimeIsUp(nowMs: number): boolean;
  /** Bytes moved in either direction. */
  onMovement(): void;
}

/** Other files read these fields; only these methods write them. */
export class CallClock extends Timer implements CallTime {
  deadlineMs = 0;
  deadlineOwner: DeadlineOwner = 'none';
  /**
   * The time from the call's start to its own deadline or the configured one, not counting its owner's; 0 means no
   * limit.
   */
  allowedMs = 0;
  /** Undefined where silence has no limit. */
  private idle: IdleClock | undefined = undefined;
  private readonly call: ClockedCall;

  constructor(call: ClockedCall) {
    super();
    this.call = call;
  }

  /**
   * Starts the clocks; a second call moves them.
   *
   * @param ownersDeadlineMs when the inbound call that this one is made for must be over; 0 for no limit
   */
  limit(limits: TimeLimits, ownersDeadlineMs: number): void {
    const { context, info, startedAtMs } = this.call;
    const allowed = allowedMs(info.timeoutMs, limits, info.kind);
    this.allowedMs = allowed;
    this.deadlineMs = allowed === 0 ? 0 : startedAtMs + allowed;
    this.deadlineOwner = deadlineOwner(info.timeoutMs, allowed);
    if (ownersDeadlineMs > 0 && (this.deadlineMs === 0 || ownersDeadlineMs < this.deadlineMs)) {
      this.deadlineMs = ownersDeadlineMs;
      this.deadlineOwner = 'inbound';
    }
    if (this.deadlineMs > 0) context.wheel.arm(this, this.deadlineMs);
    else context.wheel.cancel(this);
    this.limitSilence(idleTimeoutMs(limits, info.kind));
  }

  private limitSilence(idleMs: number): void {
    const { context } = this.call;
    if (idleMs > 0) {
      this.idle ??= new IdleClock(this.call, context.wheel);
      this.idle.start(idleMs, context.clock());
    } else this.idle?.stop();
  }

  /** Bytes moved in either direction: a call is not idle while its caller sends or reads. */
  onMovement(): void {
    if (this.idle !== undefined) this.idle.movedAtMs = this.call.context.clock();
  }

  /** Another call has the clock for the app's silence. */
  stopIdle(): void {
    this.idle?.stop();
  }

  /** Removes the caller's deadline, which has passed: the call runs its task for others. */
  liftDeadline(): void {
    this.deadlineMs = 0;
    this.deadlineOwner = 'none';
  }

  /** Neither the deadline nor the moment after the answer ends the call any more. */
  stop(): void {
    this.call.context.wheel.cancel(this);
  }

  /** The answer is complete: the timer now ends the moment that the caller has to end its request. */
  linger(ms: number): void {
    const { wheel, clock } = this.call.context;
    wheel.arm(this, clock() + ms);
  }

  override onTimeout(nowMs: number): void {
    this.call.onTimeout(nowMs);
  }

  /**
   * Whether the caller's own deadline has passed, too. A caller's deadline, and that of the inbound call that the app
   * answers, were set a moment before ours and expire first. Only the sidecar knows a configured timeout.
   */
  callersTimeIsUp(nowMs: number): boolean {
    const { deadlineMs, deadlineOwner } = this;
    if (deadlineOwner !== 'caller' && deadlineOwner !== 'inbound') return false;
    const { startedAtMs } = this.call;
    return deadlineReached(nowMs - startedAtMs, deadlineMs - startedAtMs);
  }
}
