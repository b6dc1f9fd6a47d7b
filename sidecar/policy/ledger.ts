/**
 * Reserves what a request may cost before it is sent, in all the budgets that it belongs to at once. Pure; the time comes in.
 *
 *     const scopes = [
 *       ledger.scope('task', 'alice 17', { tokens: 20_000, nanos: Infinity }),
 *       ledger.scope('caller', 'alice', { tokens: Infinity, nanos: usd(50) }),
 *       ledger.scope('day', 'alice', { tokens: Infinity, nanos: usd(5) }),
 *     ];
 *     const taken = ledger.reserve(scopes, worst);        before the request is sent: all of them, or none
 *     if (!taken.granted) refuse(taken);                  says which budget, which unit, what is left, when it is new
 *     …
 *     ledger.settle(taken, actual);                       exactly once, at its end; further calls do nothing
 *
 * - Reserve again before a fallback or a retry, at its own price: an attempt is settled first, with what it may have cost.
 * - `worst` is the most that the attempt can cost. An undefined part is unknown, and refused by a budget that limits it.
 * - `actual` is what it did cost. An undefined part counts as all that was reserved.
 * - So `spent + reserved ≤ limit` holds in each budget at each moment, as long as no actual is above its worst.
 *
 * A day is one of UTC, and belongs to the moment at which its scope is asked for: what is reserved before midnight is
 * settled with the day before. Get the scopes anew for each request, and keep them for its later attempts.
 *
 * Replicas that share a budget: give each `scope` the limit that this replica holds a lease on, and raise it as leases come;
 * what is spent stays. A refusal tells in `missing` how much more would do, so that the request can wait for a lease and
 * reserve again. `use` tells what is spent and reserved, for reports and for giving a lease back.
 */
import { type Amount, Budget, type Limit, NANOS_PER_USD, type Unit } from './budget.ts';

/** A call: the budget that came with it. A task: all its calls and requests. A caller: for ever. A day: one of a caller. */
export type ScopeKind = 'call' | 'task' | 'caller' | 'day';

export interface Scope {
  readonly kind: ScopeKind;
  /** Whose budget it is, in words for logs: the caller's name, the task's id. */
  readonly key: string;
  readonly budget: Budget;
  /** When the budget is new, by the ledger's clock; Infinity for one that lasts. */
  readonly renewsAtMs: number;
}

export interface Granted {
  readonly granted: true;
  readonly scopes: readonly Scope[];
  readonly worst: Amount;
  isSettled: boolean;
}

export interface Refused {
  readonly granted: false;
  readonly scope: Scope;
  /** What the budget lacks. */
  readonly unit: Unit;
  /** What is left of it: tokens, or nano-dollars. */
  readonly left: number;
  /** What the request may cost; undefined where that is unknown, so that no limit helps. */
  readonly worst: number | undefined;
  /** How much more the budget would need; undefined where `worst` is unknown. */
  readonly missing: number | undefined;
}

/** The tasks whose budgets are remembered; the one that was quiet for longest is forgotten first. */
const MAX_TASKS = 10_000;
const DAY_MS = 86_400_000;

/** Returns dollars as nano-dollars. */
export function usd(dollars: number): number {
  return Math.round(dollars * NANOS_PER_USD);
}

export class Ledger {
  private readonly clock: () => number;
  /** In the order of their last use. */
  private readonly tasks = new Map<string, Scope>();
  private readonly callers = new Map<string, Scope>();
  private readonly days = new Map<string, Scope>();

  /** @param clock milliseconds since 1970, so that days begin at midnight of UTC */
  constructor(clock: () => number) {
    this.clock = clock;
  }

  /** The number of tasks with a budget. */
  get taskCount(): number {
    return this.tasks.size;
  }

  /**
   * Returns the budget of a task, a caller, or a caller's day, and creates it where there is none.
   *
   * @param key '' is a budget of its own, which nobody else finds
   * @param limit a caller's and a day's limit becomes this one; a task keeps the one of its first request
   */
  scope(kind: Exclude<ScopeKind, 'call'>, key: string, limit: Limit): Scope {
    if (key === '') return { kind, key, budget: new Budget(limit), renewsAtMs: Number.POSITIVE_INFINITY };
    switch (kind) {
      case 'task':
        return this.task(key, limit);
      case 'caller':
        return this.lasting(key, limit);
      case 'day':
        return this.today(key, limit);
      default:
        return kind satisfies never;
    }
  }

  /** Returns what a budget has spent and reserved; undefined for one that nobody has asked for, or whose day is over. */
  use(
    kind: Exclude<ScopeKind, 'call'>,
    key: string,
  ): Pick<Budget, 'spent' | 'reserved' | 'left'> | undefined {
    const scope = { task: this.tasks, caller: this.callers, day: this.days }[kind].get(key);
    return scope === undefined || scope.renewsAtMs <= this.clock() ? undefined : scope.budget;
  }

  /** Reserves in all the scopes, or in none. */
  reserve(scopes: readonly Scope[], worst: Amount): Granted | Refused {
    for (let i = 0; i < scopes.length; i++) {
      const scope = scopes[i]!;
      const unit = scope.budget.lacks(worst);
      if (unit === undefined) {
        scope.budget.take(worst);
        continue;
      }
      const refused = refusal(scope, unit, worst);
      for (let taken = 0; taken < i; taken++) scopes[taken]!.budget.settle(worst, NOTHING);
      return refused;
    }
    return { granted: true, scopes, worst, isSettled: false };
  }

  /** Replaces a reservation by the real cost; an unknown part of it counts as all that was reserved. */
  settle(reservation: Granted, actual: Amount): void {
    if (reservation.isSettled) return;
    reservation.isSettled = true;
    const { scopes, worst } = reservation;
    const tokens = Math.max(0, actual.tokens ?? worst.tokens ?? 0);
    const nanos = Math.max(0, Math.ceil(actual.nanos ?? worst.nanos ?? 0));
    for (const { budget } of scopes) budget.settle(worst, { tokens, nanos });
  }

  private task(key: string, limit: Limit): Scope {
    const scope = this.tasks.get(key) ?? lastingScope('task', key, limit);
    this.tasks.delete(key);
    this.tasks.set(key, scope);
    if (this.tasks.size > MAX_TASKS) this.forgetOne();
    return scope;
  }

  /** Keeps a budget that is in use: a new one would begin full. */
  private forgetOne(): void {
    for (const [key, { budget }] of this.tasks) {
      const { tokens, nanos } = budget.reserved;
      if (tokens > 0 || nanos > 0) continue;
      this.tasks.delete(key);
      return;
    }
  }

  private lasting(key: string, limit: Limit): Scope {
    let scope = this.callers.get(key);
    if (scope === undefined) this.callers.set(key, (scope = lastingScope('caller', key, limit)));
    else scope.budget.limitTo(limit);
    return scope;
  }

  private today(key: string, limit: Limit): Scope {
    const nowMs = this.clock();
    const known = this.days.get(key);
    if (known !== undefined && nowMs < known.renewsAtMs) {
      known.budget.limitTo(limit);
      return known;
    }
    const renewsAtMs = (Math.floor(nowMs / DAY_MS) + 1) * DAY_MS;
    const scope: Scope = { kind: 'day', key, budget: new Budget(limit), renewsAtMs };
    this.days.set(key, scope);
    return scope;
  }
}

const NOTHING: Limit = { tokens: 0, nanos: 0 };

function lastingScope(kind: ScopeKind, key: string, limit: Limit): Scope {
  return { kind, key, budget: new Budget(limit), renewsAtMs: Number.POSITIVE_INFINITY };
}

function refusal(scope: Scope, unit: Unit, { tokens, nanos }: Amount): Refused {
  const { left } = scope.budget;
  const isTokens = unit === 'tokens';
  const worst = isTokens ? tokens : nanos;
  const has = isTokens ? left.tokens : left.nanos;
  return {
    granted: false,
    scope,
    unit,
    left: has,
    worst,
    missing: worst === undefined ? undefined : worst - has,
  };
}
