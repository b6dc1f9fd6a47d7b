/** Names the calls of this process that wait for tasks: the log tells by them whether anybody wants a task's answer. */
import { randomBytes } from 'node:crypto';
import { waiterName } from '../log/wanted.ts';

export class WaitingCallers {
  /** Names this process on all logs. */
  readonly sidecar = randomBytes(9).toString('base64url');
  /** How many wait now. */
  waiting = 0;
  private calls = 0;

  /** A call begins to wait. Returns its name. */
  begin(): string {
    this.waiting++;
    return waiterName(this.sidecar, ++this.calls);
  }

  /** The call waits no longer. */
  end(): void {
    this.waiting--;
  }
}
