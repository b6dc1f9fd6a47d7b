/** One loss of a call's stream: what is asked for, and how far that has come. */
import type { Endpoint } from '../cluster/endpoint.ts';
import { type Arrows, move, type StateOf, statesOf } from '../errors/illegal-step.ts';

/** The attempt that lost its stream. */
interface LostAttempt {
  readonly endpoint: Endpoint;
  readonly number: number;
  readonly hedge: boolean;
  readonly resume: StreamResume | undefined;
}

/**
 * - `asking`: an attempt asks the endpoint for the rest of the stream;
 * - `waiting`: an attempt got no answer, and the next one waits for its back-off;
 * - `resumed`: the rest arrives;
 * - `given_up`: the caller learns that its stream was cut.
 */
type ResumeState = 'asking' | 'waiting' | 'resumed' | 'given_up';

/** The arrows of the drawing at {@link StreamResume}. */
export const RESUME_ARROWS: Arrows<ResumeState> = {
  asking: ['waiting', 'resumed', 'given_up'],
  waiting: ['asking', 'given_up'],
  resumed: ['asking', 'waiting', 'given_up'],
  given_up: [],
};

const STATE = statesOf(RESUME_ARROWS);

/**
 * The resumption of a stream after one loss:
 *
 *     asking ──the head names the stream──▶ resumed ──lost again, without a new byte──▶ asking, waiting
 *      │  ▲
 *      │  └──back-off── waiting
 *      ├──no answer──────▲
 *      └──▶ given_up (also from the others)
 *
 * A loss behind new bytes begins another one.
 */
export class StreamResume {
  /** The name of the stream, which it keeps over all its connections. */
  readonly name: string;
  readonly endpoint: Endpoint;
  /** The attempt that began the answer. */
  readonly origin: LostAttempt;
  /** The first byte that is missing. */
  readonly fromByte: number;
  readonly lostAtMs: number;
  /** How long the run waits for its caller. */
  readonly lingerMs: number;
  tries = 0;
  /** The latest try has reached the endpoint. */
  reached = false;
  private state: StateOf<ResumeState> = STATE.asking;

  constructor(cut: LostAttempt, name: string, fromByte: number, lostAtMs: number, lingerMs: number) {
    this.origin = cut.resume?.origin ?? cut;
    this.endpoint = cut.endpoint;
    this.name = name;
    this.fromByte = fromByte;
    this.lostAtMs = lostAtMs;
    this.lingerMs = lingerMs;
  }

  /** The rest arrives, or has arrived. */
  get isResumed(): boolean {
    return this.state === STATE.resumed;
  }

  /** The attempt got no answer. */
  fail(reached: boolean): void {
    this.tries++;
    this.reached = reached;
  }

  wait(): void {
    this.state = move(this.state, STATE.waiting);
  }

  ask(): void {
    if (this.state !== STATE.asking) this.state = move(this.state, STATE.asking);
  }

  accept(): void {
    this.state = move(this.state, STATE.resumed);
  }

  giveUp(): void {
    this.state = move(this.state, STATE.given_up);
  }
}
