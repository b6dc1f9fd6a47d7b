/**
 * Clusters or endpoints that were removed while calls still ran on them. Metrics report them until the calls have ended and
 * two minutes longer, so that a scraper sees how they ended. Pure; it does no work per call.
 */

/** Scrapes are less than a minute apart, as a rule. */
const REPORTED_MS = 120_000;
/** Beyond this many, the items removed first are dropped. */
const MAX_ITEMS = 1_000;

export class Leaving<Item extends { readonly activeCalls: number }> {
  /** Item → when it last had calls, as `reported` saw it. */
  private readonly items = new Map<Item, number>();

  /** Keeps the item if it has calls. */
  add(item: Item, nowMs: number): void {
    if (item.activeCalls === 0) return;
    this.items.set(item, nowMs);
    if (this.items.size <= MAX_ITEMS) return;
    const [oldest] = this.items.keys();
    this.items.delete(oldest!);
  }

  /** The items that have calls, or had some in the last two minutes. */
  *reported(nowMs: number): Generator<Item> {
    for (const [item, seenMs] of this.items) {
      if (item.activeCalls > 0) this.items.set(item, nowMs);
      else if (nowMs - seenMs >= REPORTED_MS) {
        this.items.delete(item);
        continue;
      }
      yield item;
    }
  }

  /** The items that have calls. */
  *busy(): Generator<Item> {
    for (const item of this.items.keys()) if (item.activeCalls > 0) yield item;
  }
}
