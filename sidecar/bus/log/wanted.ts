/** Decides until when a task may take, and whether it goes on when a caller leaves, by who wants its answer. Pure. */

/** Stored with each task, as JSON. */
export interface Wanted {
  /**
   * The callers that wait, by their names ({@link waiterName}). Each counts until its time, and after it for as long as its
   * sidecar says that it is there ({@link TaskLog.attend}): one that was killed keeps no task alive.
   */
  readonly waiters: Readonly<Record<string, number>>;
  /** Somebody has submitted it to be run whether or not a caller waits: until then, or null for no deadline. */
  readonly submitted?: { readonly untilMs: number | null };
}

/** A submit asks for this. */
export interface Wish {
  /** Undefined for a task that is to run whether or not somebody waits. */
  readonly waiter: string | undefined;
  /** Until when it counts without another word of its sidecar. */
  readonly waitsUntilMs: number;
  /** Infinity without one. */
  readonly deadlineAtMs: number;
}

/** How a caller leaves before the end: it wants no answer any more, or its connection is lost and it may come back. */
export type Leaving = 'cancelled' | 'vanished';

/** Why a task is cancelled whose last caller wants no answer. */
export const CALLER_LEFT = 'its caller has left';

/** With more callers than this a task goes on whoever leaves: so many names have no place beside it. */
const MOST_WAITERS = 64;
const NOBODY: Wanted = { waiters: {} };

/** The name of a caller on all logs. */
export function waiterName(sidecar: string, call: number): string {
  return `${sidecar}.${call}`;
}

function sidecarOf(waiter: string): string {
  return waiter.slice(0, waiter.lastIndexOf('.'));
}

export function wantedBy(wish: Wish): Wanted {
  return joined({ wanted: NOBODY, deadlineAtMs: wish.deadlineAtMs }, wish)!.wanted;
}

interface Task {
  readonly wanted: Wanted;
  /** Infinity without one. */
  readonly deadlineAtMs: number;
}

/** A task after another has asked for it; undefined when that changes nothing. Its deadline is the latest of all. */
export function joined({ wanted, deadlineAtMs }: Task, wish: Wish): Task | undefined {
  const { waiter, waitsUntilMs } = wish;
  const latestMs = Math.max(deadlineAtMs, wish.deadlineAtMs);
  if (waiter === undefined) {
    const before =
      wanted.submitted === undefined ? 0 : (wanted.submitted.untilMs ?? Number.POSITIVE_INFINITY);
    const untilMs = Math.max(before, wish.deadlineAtMs);
    if (untilMs === before && latestMs === deadlineAtMs) return undefined;
    const submitted = { untilMs: Number.isFinite(untilMs) ? untilMs : null };
    return { wanted: { ...wanted, submitted }, deadlineAtMs: latestMs };
  }
  if (Object.hasOwn(wanted.waiters, waiter) && latestMs === deadlineAtMs) return undefined;
  const waiters = { ...wanted.waiters, [waiter]: waitsUntilMs };
  if (Object.keys(waiters).length > MOST_WAITERS)
    return { wanted: { ...wanted, submitted: { untilMs: null } }, deadlineAtMs: latestMs };
  return { wanted: { ...wanted, waiters }, deadlineAtMs: latestMs };
}

/**
 * A task after a caller has left; undefined when that is none of its callers. The deadline of one that has vanished stands.
 * Behind the last caller that has cancelled, that of a submitted task is its own again.
 */
export function left({ wanted, deadlineAtMs }: Task, waiter: string, leaving: Leaving): Task | undefined {
  if (!Object.hasOwn(wanted.waiters, waiter)) return undefined;
  const { [waiter]: _, ...waiters } = wanted.waiters;
  const isLast = Object.keys(waiters).length === 0;
  const { submitted } = wanted;
  const isItsOwn = leaving === 'cancelled' && isLast && submitted !== undefined;
  return {
    wanted: { ...wanted, waiters },
    deadlineAtMs: isItsOwn ? (submitted.untilMs ?? Number.POSITIVE_INFINITY) : deadlineAtMs,
  };
}

/** `unsure`: ask which of these sidecars are there. */
export type Wants = 'yes' | 'no' | { readonly unsure: readonly string[] };

/** Whether somebody wants the answer. */
export function isWanted({ waiters, submitted }: Wanted, nowMs: number): Wants {
  if (submitted !== undefined) return 'yes';
  const names = Object.keys(waiters);
  if (names.length === 0) return 'no';
  if (names.some((name) => waiters[name]! > nowMs)) return 'yes';
  return { unsure: [...new Set(names.map(sidecarOf))] };
}
