/**
 * The probes of a half-open circuit. A probe holds one of few places until its verdict comes; one that has none after
 * a while gives its place back, or a call that never ends would keep the circuit from ever closing.
 *
 *     take ──▶ in flight ──verdict──▶ released
 *                 │                      ▲
 *                 └──too long──▶ overdue ┘   its place is free, its verdict still counts
 *
 * An overdue probe's verdict counts, because a method may simply take longer than that: such a circuit must close too.
 */

/** Overdue probes that are remembered; the oldest is forgotten, and its verdict with it. */
const MAX_OVERDUE = 1000;

export class ProbeSlots {
  /** When each began; the oldest first. */
  readonly #inFlight = new Map<number, number>();
  readonly #overdue = new Set<number>();

  get inFlight(): number {
    return this.#inFlight.size;
  }

  take(id: number, nowMs: number): void {
    this.#inFlight.set(id, nowMs);
  }

  /** The probe has its verdict. False when it is not known, or had one already. */
  release(id: number): boolean {
    return this.#inFlight.delete(id) || this.#overdue.delete(id);
  }

  /** Gives the places back of the probes that began at `beforeMs` or earlier. */
  expire(beforeMs: number): void {
    for (const [id, startedAtMs] of this.#inFlight) {
      if (startedAtMs > beforeMs) return;
      this.#inFlight.delete(id);
      this.#overdue.add(id);
      if (this.#overdue.size > MAX_OVERDUE) this.#overdue.delete(this.#overdue.values().next().value!);
    }
  }

  clear(): void {
    this.#inFlight.clear();
    this.#overdue.clear();
  }
}
