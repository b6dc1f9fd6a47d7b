/**
 * What has been taken out while calls still ran on it. It is told of until they have ended and a while longer: a scraper that
 * comes by now and then must see how they ended. Pure; nothing of it is done for a call.
 */

/** Scrapes are less than a minute apart, as a rule. */
const TOLD_MS = 120_000;
/** Items beyond are forgotten, those that went first before the others. */
const MAX_ITEMS = 1_000;

export class Leaving<Item extends { readonly activeCalls: number }> {
  /** When it was last seen with calls. */
  readonly #items = new Map<Item, number>();

  /** Keeps it if calls run on it. */
  add(item: Item, nowMs: number): void {
    if (item.activeCalls === 0) return;
    this.#items.set(item, nowMs);
    if (this.#items.size <= MAX_ITEMS) return;
    const [oldest] = this.#items.keys();
    this.#items.delete(oldest!);
  }

  /** Those with calls, and those whose last ones have ended lately. */
  *told(nowMs: number): Generator<Item> {
    for (const [item, seenMs] of this.#items) {
      if (item.activeCalls > 0) this.#items.set(item, nowMs);
      else if (nowMs - seenMs >= TOLD_MS) {
        this.#items.delete(item);
        continue;
      }
      yield item;
    }
  }

  /** Those with calls. */
  *busy(): Generator<Item> {
    for (const item of this.#items.keys()) if (item.activeCalls > 0) yield item;
  }
}
