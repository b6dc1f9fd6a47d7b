/**
 * Decides which pods get another `controller.kubernetes.io/pod-deletion-cost`: of the pods that a ReplicaSet may delete, it
 * takes those with the lowest cost first, so idle pods cost less than busy ones. Each write is one of the API server's, so a
 * pod's cost changes only when the pod has turned idle or busy, and at most every 30 s. Pure.
 */

/** Lower than the 0 of a pod without a cost, whose work nobody knows. */
export const IDLE_COST = '-100';
export const BUSY_COST = '100';
export const COST_EVERY_MS = 30_000;

export interface KnownPod {
  readonly uid: string;
  /** The cost that the API server has; undefined without one. */
  readonly cost: string | undefined;
  readonly isBusy: boolean;
}

export interface CostWrite {
  readonly uid: string;
  readonly cost: string;
}

export class DeletionCosts {
  /** When each pod's cost was written last, or tried. */
  private readonly writtenAtMs = new Map<string, number>();

  /** The writes that are due now; they count as written. */
  due(nowMs: number, pods: readonly KnownPod[]): CostWrite[] {
    const there = new Set(pods.map(({ uid }) => uid));
    for (const uid of this.writtenAtMs.keys()) if (!there.has(uid)) this.writtenAtMs.delete(uid);
    const writes: CostWrite[] = [];
    for (const { uid, cost, isBusy } of pods) {
      // Somebody else's cost has a meaning of its own.
      if (cost !== undefined && cost !== IDLE_COST && cost !== BUSY_COST) continue;
      const wanted = isBusy ? BUSY_COST : IDLE_COST;
      if (cost === wanted || nowMs - (this.writtenAtMs.get(uid) ?? Number.NEGATIVE_INFINITY) < COST_EVERY_MS)
        continue;
      this.writtenAtMs.set(uid, nowMs);
      writes.push({ uid, cost: wanted });
    }
    return writes;
  }
}
