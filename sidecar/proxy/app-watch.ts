import { type Backoff, backoffMs } from '../clock/backoff.ts';
import { Timer, type TimerWheel } from '../clock/timer-wheel.ts';
import type { Cluster } from '../cluster/cluster.ts';
import { Status, type StatusCode } from '../grpc/status.ts';
import type { MessageHead } from '../http2/head.ts';
import type { HeaderList } from '../http2/hpack/header-list.ts';
import { readServingStatus, ServingStatus } from '../task/health-message.ts';
import { type AppAnswer, AppQuestion } from './app-question.ts';
import type { HealthCall } from './health-call.ts';

export interface AppWatchEnvironment {
  readonly cluster: Cluster;
  readonly wheel: TimerWheel;
  readonly clock: () => number;
  readonly random: () => number;
}

/** Waits before the app is asked again, after it has ended a watch at once. */
const AGAIN: Backoff = { baseMs: 100, multiplier: 1.6, maxMs: 5_000 };
/** A watch that lasted for so long has ended for a reason of its own: it is begun anew without a wait. */
const LASTED_MS = 1_000;

/** The app does not end a watch so for something that the caller did: it ends, or its connection does. */
function isGoing(status: StatusCode): boolean {
  return status === Status.OK || status === Status.CANCELLED || status === Status.UNAVAILABLE;
}

/**
 * One caller's watch of a service of the app's own. It outlives the app:
 *
 *                ┌──── the app's messages ────┐
 *                ▼                            │
 *     asking ──▶ watching ──────────────────▶ told
 *       ▲          │
 *       │          ├── the app ends, or its connection: asked again ──▶ nobody there: NOT_SERVING, and again later
 *       │          ├── it knows no health service: SERVICE_UNKNOWN, asked again on its next connection
 *       └──────────┘
 *                  └── another status: the caller gets it
 */
export class AppWatch extends Timer implements AppAnswer {
  /** The status that the app said last, or that its absence implies; undefined before either. */
  status: ServingStatus | undefined = undefined;
  private readonly environment: AppWatchEnvironment;
  private readonly call: HealthCall;
  private readonly onStatus: () => void;
  private question: AppQuestion | undefined = undefined;
  private startedAtMs = 0;
  private heard = false;
  /** Times in a row that it was ended at once. */
  private failures = 0;
  private stopped = false;

  /** @param onStatus `status` is another, or the same again */
  constructor(environment: AppWatchEnvironment, call: HealthCall, onStatus: () => void) {
    super();
    this.environment = environment;
    this.call = call;
    this.onStatus = onStatus;
  }

  ask(): void {
    const { cluster, clock, wheel } = this.environment;
    wheel.cancel(this);
    this.heard = false;
    this.startedAtMs = clock();
    this.question = new AppQuestion(cluster, this.call, this);
    this.question.start();
  }

  /** There is a connection to the app where there was none; after a reload, to another app. */
  onConnected(): void {
    const { question } = this;
    if (
      this.stopped ||
      (question !== undefined && question.endpoint === this.environment.cluster.endpoints[0])
    )
      return;
    question?.cancel();
    this.ask();
  }

  override onTimeout(): void {
    this.ask();
  }

  onMessage(message: Buffer): void {
    this.heard = true;
    this.set(readServingStatus(message, 0, message.length));
  }

  /** The status of a service while the app is absent. A service that the app did not know stays unknown. */
  get absentStatus(): ServingStatus {
    return this.status === ServingStatus.SERVICE_UNKNOWN ? this.status : ServingStatus.NOT_SERVING;
  }

  private set(status: ServingStatus): void {
    this.status = status;
    this.onStatus();
  }

  onEnd(status: StatusCode, list: HeaderList, head: MessageHead): void {
    this.question = undefined;
    if (status === Status.UNIMPLEMENTED) this.set(ServingStatus.SERVICE_UNKNOWN);
    else if (isGoing(status)) this.again();
    else this.call.endAs(list, head);
  }

  onNoAnswer(why: 'absent' | 'not_grpc'): void {
    this.question = undefined;
    if (why === 'not_grpc') this.set(ServingStatus.SERVICE_UNKNOWN);
    else this.again();
  }

  /** Keeps the last status until the next try, since a connection that only grew old says nothing new. */
  private again(): void {
    if (this.stopped) return;
    const { wheel, clock, random } = this.environment;
    const nowMs = clock();
    const lasted = this.heard && nowMs - this.startedAtMs >= LASTED_MS;
    this.failures = lasted ? 0 : this.failures + 1;
    wheel.arm(this, lasted ? nowMs : nowMs + backoffMs(AGAIN, this.failures, random()));
    if (!this.heard) this.set(this.absentStatus);
  }

  /** The caller has gone. */
  stop(): void {
    this.stopped = true;
    this.environment.wheel.cancel(this);
    this.question?.cancel();
    this.question = undefined;
  }
}
