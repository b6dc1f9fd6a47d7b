/** The pods of a fleet as they were listed last, each with the page of its sidecar that was read last. */
import type { PodPage } from './pod-page.ts';
import type { Pod } from './pods.ts';
import { type Bounds, boundsOf } from './shared-bounds.ts';

/** What was known longer ago is no longer known. */
const STALE_MS = 20_000;

export interface Member {
  pod: Pod;
  /** The last one that was right. */
  page: PodPage | undefined;
  readAtMs: number;
  /** Whether its counters began after the fleet was first listed. */
  readonly isNew: boolean;
}

/** A member whose page is still true. */
type Known = Member & { readonly page: PodPage };

/** A page that was just read. */
export interface Reading {
  readonly member: Member;
  readonly page: PodPage;
}

export class Members {
  private readonly byUid = new Map<string, Member>();
  private readonly now: () => number;
  private listedAtMs = Number.NEGATIVE_INFINITY;

  constructor(now: () => number) {
    this.now = now;
  }

  /** How many there are by a list that may be old. */
  get size(): number {
    return this.byUid.size;
  }

  /** The list is so old that it says nothing. */
  get isStale(): boolean {
    return this.now() - this.listedAtMs > STALE_MS;
  }

  /** Takes a new list. */
  enter(pods: readonly Pod[]): void {
    const lastListedAtMs = this.listedAtMs;
    const isFirst = lastListedAtMs === Number.NEGATIVE_INFINITY;
    this.listedAtMs = this.now();
    const there = new Set(pods.map(({ uid }) => uid));
    for (const uid of this.byUid.keys()) if (!there.has(uid)) this.byUid.delete(uid);
    for (const pod of pods) {
      const member = this.byUid.get(pod.uid);
      if (member !== undefined) member.pod = pod;
      else this.byUid.set(pod.uid, { pod, page: undefined, readAtMs: lastListedAtMs, isNew: !isFirst });
    }
  }

  clear(): void {
    this.byUid.clear();
  }

  get(uid: string): Member | undefined {
    return this.byUid.get(uid);
  }

  /** Those that can be asked for their page. */
  get reachable(): Member[] {
    return [...this.byUid.values()].filter(({ pod }) => pod.ip !== '');
  }

  get ready(): number {
    return [...this.byUid.values()].filter(({ pod }) => pod.isReady).length;
  }

  get known(): Known[] {
    const sinceMs = this.now() - STALE_MS;
    return [...this.byUid.values()].filter(
      (member): member is Known => member.page !== undefined && member.readAtMs >= sinceMs,
    );
  }

  get activeCalls(): number {
    return this.known.reduce((calls, { page }) => calls + page.activeCalls, 0);
  }

  /** The bounds of each pod's histograms: a pod whose page could not be read just now has those of its last one. */
  boundsWith(readings: readonly Reading[]): Bounds[] {
    const pages = new Map(this.known.map(({ pod, page }) => [pod.uid, page]));
    for (const { member, page } of readings) pages.set(member.pod.uid, page);
    return [...pages.values()].flatMap((page) => {
      const bounds = boundsOf(page);
      return bounds === undefined ? [] : [bounds];
    });
  }
}
