/** The fleets that somebody asks for, each measured until nobody has asked for a while. */
import { Fleet, FleetError, type FleetOptions } from './fleet.ts';
import type { PodSelection } from './trigger.ts';

/** More than the ScaledObjects of a namespace; whoever asks could invent selectors without an end. */
const MAX_FLEETS = 256;
/** KEDA asks every few seconds or minutes. */
const UNUSED_MS = 600_000;

interface Used {
  readonly fleet: Fleet;
  usedAtMs: number;
}

export class Fleets {
  private readonly options: Omit<FleetOptions, 'selection'>;
  private readonly byName = new Map<string, Used>();
  private readonly timer: NodeJS.Timeout;

  constructor(options: Omit<FleetOptions, 'selection'>, intervalMs: number) {
    this.options = options;
    this.timer = setInterval(() => this.measureAll(intervalMs), intervalMs);
  }

  /** @throws FleetError when there are too many */
  of(selection: PodSelection): Fleet {
    const name = `${selection.namespace}\n${selection.selector}`;
    let used = this.byName.get(name);
    if (used === undefined) {
      if (this.byName.size >= MAX_FLEETS)
        throw new FleetError(
          `pods of ${MAX_FLEETS} selectors are measured already; run another scaler for more`,
        );
      used = { fleet: new Fleet({ ...this.options, selection }), usedAtMs: 0 };
      this.byName.set(name, used);
    }
    used.usedAtMs = this.options.now();
    return used.fleet;
  }

  get size(): number {
    return this.byName.size;
  }

  close(): void {
    clearInterval(this.timer);
    this.byName.clear();
  }

  private measureAll(intervalMs: number): void {
    for (const [name, { fleet, usedAtMs }] of this.byName) {
      if (this.options.now() - usedAtMs > UNUSED_MS) this.byName.delete(name);
      else void fleet.measure(intervalMs / 2);
    }
  }
}
