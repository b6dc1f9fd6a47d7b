/**
 * The probes of a half-open circuit. A probe holds one of few places until its verdict arrives. A probe that has none
 * after a while gives its place back, or a call that never ends would keep the circuit from closing.
 *
 *     take ──▶ in flight ──verdict──▶ released
 *                 │                      ▲
 *                 └──too long──▶ overdue ┘   its place is free, its verdict still counts
 *
 * The verdict of an overdue probe counts, because a method may simply take longer than that: such a circuit must close,
 * too.
 */

/** The number of overdue probes to remember; the oldest is forgotten, and its verdict with it. */
const MAX_OVERDUE = 1000;

export class ProbeSlots {
  /** When each probe began; the oldest first. */
  private readonly probes = new Map<number, number>();
  private readonly overdue = new Set<number>();

  get inFlight(): number {
    return this.probes.size;
  }

  take(id: number, nowMs: number): void {
    this.probes.set(id, nowMs);
  }

  /** The probe got its verdict. Returns false when the probe is unknown, or had its verdict already. */
  release(id: number): boolean {
    return this.probes.delete(id) || this.overdue.delete(id);
  }

  /** Frees the places of the probes that began at `beforeMs` or earlier. */
  expire(beforeMs: number): void {
    for (const [id, startedAtMs] of this.probes) {
      if (startedAtMs > beforeMs) return;
      this.probes.delete(id);
      this.overdue.add(id);
      if (this.overdue.size > MAX_OVERDUE) this.overdue.delete(this.overdue.values().next().value!);
    }
  }

  clear(): void {
    this.probes.clear();
    this.overdue.clear();
  }
}
