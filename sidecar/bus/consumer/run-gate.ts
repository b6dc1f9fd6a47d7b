/** Lets runs begin beside each other, or one alone. */

/**
 * A task whose runs were lost again and again runs with no other beside it, so that an agent that it crashes takes nothing
 * else down:
 *
 *     shared ──enter alone──▶ emptying ──the others have ended──▶ alone ──leave──▶ shared
 */
export class RunGate {
  private running = 0;
  /** A run that is alone, or waits to be. */
  private aloneInside = false;
  private whenEmpty: (() => void) | undefined = undefined;
  private readonly onChange: (isShared: boolean) => void;

  /** @param onChange told whether further tasks may be taken */
  constructor(onChange: (isShared: boolean) => void) {
    this.onChange = onChange;
  }

  /**
   * Returns true when the run may begin, and false when it must not wait for its turn here: give its task back. Each true
   * must be paired with a `leave`.
   */
  async enter(alone: boolean): Promise<boolean> {
    if (this.aloneInside) return false;
    if (!alone) {
      this.running++;
      return true;
    }
    this.aloneInside = true;
    this.onChange(false);
    if (this.running > 0)
      await new Promise<void>((resolve) => {
        this.whenEmpty = resolve;
      });
    return true;
  }

  leave(alone: boolean): void {
    if (alone) {
      this.aloneInside = false;
      this.onChange(true);
      return;
    }
    if (--this.running > 0) return;
    this.whenEmpty?.();
    this.whenEmpty = undefined;
  }
}
