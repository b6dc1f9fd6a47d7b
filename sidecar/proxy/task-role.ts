/** The part of a call in its task: it runs the task, or receives the answer of the call that does. */
import type { TaskKey } from '../task/task-message.ts';
import type { TaskFollower } from './task-follower.ts';
import type { TaskRun } from './task-run.ts';

/**
 * A call has at most one of the two parts at a time:
 *
 *     no part ──▶ runs the task ──the answer is complete──▶ no part
 *        │ ▲
 *        ▼ └──the other call ended at its own deadline──┐
 *     follows the call that runs it ────────────────────┘
 *
 * Other files read these fields; only these methods write them.
 */
export class TaskRole {
  /** The ids in the first message, once it was read. */
  key: TaskKey | undefined = undefined;
  /** The task that this call runs for all who send it. */
  run: TaskRun | undefined = undefined;
  /** Receives the answer of another call that runs the same task. */
  follower: TaskFollower | undefined = undefined;

  /** The first message has these ids. */
  identify(key: TaskKey | undefined): void {
    this.key = key;
  }

  runFor(run: TaskRun): void {
    this.run = run;
  }

  /** The answer is complete. */
  endRun(): void {
    this.run = undefined;
  }

  follow(follower: TaskFollower): void {
    this.follower = follower;
  }

  /** The call that ran the task ended at its own deadline. */
  stopFollowing(): void {
    this.follower = undefined;
  }
}
