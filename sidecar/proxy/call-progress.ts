/** How far a call has come, and how it ended for its caller. */
import { type Arrows, move, type StateOf, statesOf } from '../errors/illegal-step.ts';
import { type StatusCode, statusName } from '../grpc/status.ts';
import type { Reason } from '../policy/reasons.ts';

/**
 * - `begun`: the sidecar routes the call, or lets it wait for its turn or for an endpoint;
 * - `awaiting_message`: routing or de-duplication needs the first message, which has not arrived;
 * - `following`: another call runs, or has run, its task;
 * - `attempting`: the call has attempts, and may have another one;
 * - `answering`: something was sent downstream, and no other attempt may follow;
 * - `lingering`: the call is done, and its caller has a moment to end the request.
 */
type CallState =
  | 'begun'
  | 'awaiting_message'
  | 'following'
  | 'attempting'
  | 'answering'
  | 'done'
  | 'lingering';

/** The arrows of the drawing at {@link CallProgress}. */
export const CALL_ARROWS: Arrows<CallState> = {
  begun: ['awaiting_message', 'following', 'attempting', 'done'],
  awaiting_message: ['begun', 'done'],
  following: ['begun', 'answering', 'done'],
  attempting: ['answering', 'done'],
  answering: ['done'],
  done: ['lingering'],
  lingering: [],
};

const STATE = statesOf(CALL_ARROWS);

/**
 * The states of a call:
 *
 *     begun ──the first attempt──▶ attempting ──response head──▶ answering ──▶ done ──▶ lingering
 *      ▲ │                                                          ▲
 *      │ ├──▶ awaiting_message ──the message──▶ begun               │
 *      │ └──▶ following ─────────────head of the other's answer─────┘
 *      └──────── │ the other call ended at its own deadline
 *
 * Each state but the last two may also go to `done`: the sidecar answers the call itself, or the caller left. Other files
 * read these fields; only these methods write them.
 */
export class CallProgress {
  private state: StateOf<CallState> = STATE.begun;
  /** The status that the caller received; -1 while it waits. */
  status: StatusCode | -1 = -1;
  /** When the caller received that status or left, if the call continued for others who sent its task; otherwise 0. */
  callerGoneAtMs = 0;
  /** Set when the sidecar answered the call itself. */
  reason: Reason | undefined = undefined;

  get isAwaitingMessage(): boolean {
    return this.state === STATE.awaiting_message;
  }

  get isAnswering(): boolean {
    return this.state === STATE.answering;
  }

  get isDone(): boolean {
    return this.state === STATE.done || this.state === STATE.lingering;
  }

  get isLingering(): boolean {
    return this.state === STATE.lingering;
  }

  /** The name of the status; '' without one. */
  get statusName(): string {
    return this.status === -1 ? '' : statusName(this.status);
  }

  private become(to: StateOf<CallState>): void {
    this.state = move(this.state, to);
  }

  awaitMessage(): void {
    this.become(STATE.awaiting_message);
  }

  /** The sidecar has what it needs of the first message. */
  onMessage(): void {
    this.become(STATE.begun);
  }

  follow(): void {
    this.become(STATE.following);
  }

  /** The call runs the task that it followed. */
  stopFollowing(): void {
    this.become(STATE.begun);
  }

  /** An attempt begins, the first one or another. */
  attempt(): void {
    if (this.state !== STATE.attempting) this.become(STATE.attempting);
  }

  /** Something goes downstream: a head, or the end of an answer. */
  answer(): void {
    if (this.state !== STATE.answering) this.become(STATE.answering);
  }

  /** The call ends with this status, unless its caller has received another one. */
  end(status: StatusCode): void {
    this.become(STATE.done);
    if (this.status === -1) this.status = status;
  }

  linger(): void {
    if (this.state !== STATE.lingering) this.become(STATE.lingering);
  }

  /** The caller received this status or left, and the call continues for others who sent its task. */
  outlastCaller(status: StatusCode, nowMs: number): void {
    this.status = status;
    this.callerGoneAtMs = nowMs;
  }

  /** The sidecar answers the call itself, for this reason. */
  explain(reason: Reason): void {
    this.reason = reason;
  }
}
