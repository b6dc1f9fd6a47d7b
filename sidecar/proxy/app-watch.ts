/** Keeps one caller's health watch of the app's own service alive across restarts of the app. */
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

/** The waits before the watch asks the app again, after the app ended it at once. */
const AGAIN: Backoff = { baseMs: 100, multiplier: 1.6, maxMs: 5_000 };
/** A watch that lasted this long did not fail at once: the next one starts without a wait. */
const LASTED_MS = 1_000;

/** Whether the status says that the app, or its connection, is ending. The caller can't have caused these statuses. */
function isGoing(status: StatusCode): boolean {
  return status === Status.OK || status === Status.CANCELLED || status === Status.UNAVAILABLE;
}

/**
 * One caller's watch of a service of the app's own. It outlives the app:
 *
 *                ┌──── the app's messages ────┐
 *                ▼                            │
 *     asking ──▶ watching ──────────────────▶ reported
 *       ▲          │
 *       │          ├── the app or its connection ends: ask again ──▶ no app: NOT_SERVING, and ask again later
 *       │          ├── the app has no health service: SERVICE_UNKNOWN, ask again on its next connection
 *       └──────────┘
 *                  └── another status: report it to the caller
 */
export class AppWatch extends Timer implements AppAnswer {
  /** The last status that the app reported, or that its absence implies; undefined before either. */
  status: ServingStatus | undefined = undefined;
  private readonly environment: AppWatchEnvironment;
  private readonly call: HealthCall;
  private readonly onStatus: () => void;
  private question: AppQuestion | undefined = undefined;
  private startedAtMs = 0;
  private heard = false;
  /** How many times in a row the app ended the watch at once. */
  private failures = 0;
  private stopped = false;

  /** @param onStatus called when `status` changes, and when the app repeats it */
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

  /** The app is connected again; after a reload, this may be another app. */
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

  /**
   * Keeps the last status until the next try: a connection that closed because of its age says nothing about the
   * service.
   */
  private again(): void {
    if (this.stopped) return;
    const { wheel, clock, random } = this.environment;
    const nowMs = clock();
    const lasted = this.heard && nowMs - this.startedAtMs >= LASTED_MS;
    this.failures = lasted ? 0 : this.failures + 1;
    wheel.arm(this, lasted ? nowMs : nowMs + backoffMs(AGAIN, this.failures, random()));
    this.set(this.heard ? this.status! : this.absentStatus);
  }

  /**
   * The app is absent. What it reported before holds no longer: the app that comes next may not know the service. A
   * question that is still open is answered by the app that it was put to, so its status stays.
   */
  onAbsent(): void {
    if (this.question === undefined && this.status !== undefined) this.status = this.absentStatus;
  }

  /** The caller left. */
  stop(): void {
    this.stopped = true;
    this.environment.wheel.cancel(this);
    this.question?.cancel();
    this.question = undefined;
  }
}
