/** The inbound calls that the app is working on, and the search for the owner of the app's own requests. */
import { randomInt } from 'node:crypto';
import { hashOf } from '../collections/churn-map.ts';
import { type CallName, callNameIn } from '../policy/call-baggage.ts';
import { TaskMoney } from '../policy/task-money.ts';
import { IdSource } from '../telemetry/ids.ts';
import { CallIndex } from './call-index.ts';
import { EndedIds } from './ended-ids.ts';
import type { InboundCall } from './inbound-call.ts';
import { binaryTraceOf, type RequestIds, traceIdOf, traceIdsOf } from './request-ids.ts';
import { tellsApart } from './rival-calls.ts';

/**
 * How the sidecar knows the inbound call that the app makes a request for:
 *
 * - `named`: both carry the same name or id, and nothing in the request points to another running call;
 * - `alone`: no other call is running.
 *
 * Otherwise the owner is unknown, and no call's budget, end or failures apply to the request:
 *
 * - `one_of_several`: it may be one of several calls of one caller. What holds for all of them holds for it;
 * - `contested`: it may be one of several callers' calls.
 */
export interface Owner {
  /** Undefined where the owner is unknown. */
  readonly call: InboundCall | undefined;
  readonly by: 'named' | 'alone' | 'one_of_several' | 'contested';
  /** The scope of the owner or of all candidates; undefined where they have several. */
  readonly callerScope: string | undefined;
  /** The agents that the request has come through, as far as that is certain. */
  readonly callPath: string;
  /** When the owner, or the last of the candidates, must be over; 0 when that is uncertain, or there is no deadline. */
  readonly deadlineMs: number;
}

const CONTESTED: Owner = {
  call: undefined,
  by: 'contested',
  callerScope: undefined,
  callPath: '',
  deadlineMs: 0,
};

/**
 * The inbound calls that the app is working on. They show which of them a request of the app belongs to: by the name
 * that the sidecar gave the call (`policy/call-baggage.ts`), by a trace that both are part of, by a task's id or
 * another id that came with the call, or because only one call is running.
 *
 * A caller chooses all of these except the name. So an id proves nothing where it fits two calls: another caller may
 * have copied it to control, or to end, the work for the first.
 */
export class InboundCalls {
  /** A call keeps its place while it runs. */
  private readonly places: (InboundCall | undefined)[] = [];
  private readonly freePlaces: number[] = [];
  private readonly byTrace = new CallIndex<InboundCall>();
  private readonly byTask = new CallIndex<InboundCall>();
  private readonly byCorrelation = new CallIndex<InboundCall>();
  private readonly byRequest = new CallIndex<InboundCall>();
  private readonly ended = new EndedIds();
  private readonly ids = new IdSource();
  /**
   * Calls of one trace, or calls of several callers with one id, ran at the same time: ids do not suffice to find the
   * owner.
   */
  private sharesIds = false;
  /** The scope of some of the calls, and the number of calls of other scopes. */
  private scope = '';
  private others = 0;
  /** Distinguishes our names from those of an earlier sidecar process. */
  readonly process = randomInt(2 ** 32) | 0;
  size = 0;
  /** The money of the tasks that the app works on. */
  readonly money = new TaskMoney();

  /** The number of agents in the longest path of a running call. */
  get deepestPath(): number {
    let deepest = 0;
    for (const call of this.running()) deepest = Math.max(deepest, call.lineage.path.split(',').length);
    return deepest;
  }

  /** The running calls, in no particular order. */
  *running(): Generator<InboundCall> {
    for (const call of this.places) if (call !== undefined) yield call;
  }

  /** @param named whether the app's own calls can carry a name back, where ids do not suffice */
  add(call: InboundCall, named: boolean): void {
    if (call.lineage.place >= 0) return;
    const place = this.freePlaces.pop() ?? this.places.length;
    call.lineage.startAt(place);
    this.places[place] = call;
    if (this.size === 0) this.scope = call.callerScope;
    else if (call.callerScope !== this.scope) this.others++;
    this.size++;
    const { info, task } = call;
    const trace = traceOf(call);
    if (this.byTrace.add(trace, call) !== undefined) this.sharesIds = true;
    const { passed } = info;
    if (passed !== undefined) {
      for (const id of passed.traceIds) this.share(this.byTrace.add(id, call), call);
      this.share(this.byRequest.add(passed.requestId, call), call);
    }
    if (info.traceBinary !== '') this.share(this.byTrace.add(binaryTraceOf(info), call), call);
    if (task !== undefined) {
      this.share(this.byTask.add(task.taskId, call), call);
      this.share(this.byCorrelation.add(task.correlationId, call), call);
    }
    if (named && (trace === '' || this.sharesIds || this.hasMoney(call)))
      call.lineage.nameBy(this.ids.nextOdd());
  }

  /** What is spent for such a call must find it, also when another call of its trace comes later. */
  private hasMoney({ moneyBudget }: InboundCall): boolean {
    return moneyBudget >= 0 || Number.isFinite(this.money.perTask);
  }

  private share(other: InboundCall | undefined, call: InboundCall): void {
    if (other !== undefined && other.callerScope !== call.callerScope) this.sharesIds = true;
  }

  delete(call: InboundCall): void {
    const { place } = call.lineage;
    if (place < 0) return;
    this.places[place] = undefined;
    this.freePlaces.push(place);
    this.size--;
    call.lineage.end();
    this.forgetCaller(call);
    const { info, task } = call;
    const { ended } = this;
    ended.add(this.byTrace.delete(traceOf(call), call));
    const { passed } = info;
    if (passed !== undefined) {
      for (const id of passed.traceIds) ended.add(this.byTrace.delete(id, call));
      ended.add(this.byRequest.delete(passed.requestId, call));
    }
    if (info.traceBinary !== '') ended.add(this.byTrace.delete(binaryTraceOf(info), call));
    if (task === undefined) return;
    ended.add(this.byTask.delete(task.taskId, call));
    ended.add(this.byCorrelation.delete(task.correlationId, call));
  }

  private forgetCaller(call: InboundCall): void {
    if (call.callerScope !== this.scope) {
      this.others--;
      return;
    }
    if (this.others === 0 || this.others < this.size) return;
    // The last call of that caller has ended.
    this.scope = this.places.find((other) => other !== undefined)!.callerScope;
    this.others = 0;
    for (const other of this.places)
      if (other !== undefined && other.callerScope !== this.scope) this.others++;
  }

  /**
   * Finds the owner by the ids in a request's head, if none of them points to another call. `over` when the head names
   * a call that is over: then the request belongs to no running call. Undefined when the head names none.
   */
  ofHead(ids: RequestIds): InboundCall | 'over' | 'contested' | undefined {
    const { passed } = ids;
    const name = passed?.baggage === undefined ? undefined : callNameIn(passed.baggage);
    if (name !== undefined && name.process === this.process) return this.ofName(name) ?? 'over';
    const found =
      (passed && this.byTask.only(passed.taskId)) ??
      first(traceIdsOf(ids), (id) => this.byTrace.only(id)) ??
      (passed && (this.byCorrelation.only(passed.correlationId) ?? this.byRequest.only(passed.requestId)));
    if (found === undefined || this.size === 1) return found;
    const isRival = (call: InboundCall): boolean => call !== found && !tellsApart(ids, found, call);
    return this.someOfHead(ids, isRival) ? 'contested' : found;
  }

  private ofName({ place, nonce }: CallName): InboundCall | undefined {
    const call = this.places[place];
    // A call without a name has no nonce; 0 matches no call.
    return nonce !== 0 && call?.lineage.nonce === nonce ? call : undefined;
  }

  /** Whether a call with one of the head's ids passes the check. */
  private someOfHead(ids: RequestIds, check: (call: InboundCall) => boolean): boolean {
    const { passed } = ids;
    if (traceIdsOf(ids).some((id) => this.byTrace.some(id, check))) return true;
    if (passed === undefined) return false;
    return (
      this.byTask.some(passed.taskId, check) ||
      this.byCorrelation.some(passed.correlationId, check) ||
      this.byRequest.some(passed.requestId, check)
    );
  }

  /** Finds the owner by the ids of the task in a request, and by everything else. */
  ownerOf(ids: RequestIds, taskId: string, correlationId: string): Owner | undefined {
    if (this.size === 0) return undefined;
    const ofHead = this.ofHead(ids);
    if (ofHead === 'over') return undefined;
    if (ofHead === 'contested') return CONTESTED;
    if (ofHead !== undefined) return ownedBy(ofHead, 'named');
    const ofTask = this.byTask.only(taskId) ?? this.byCorrelation.only(correlationId);
    const several = this.severalOfHead(ids);
    if (several !== undefined) {
      if (ofTask !== undefined && several.has(ofTask)) return ownedBy(ofTask, 'named');
      return this.oneOf(several, ids);
    }
    // The agent chooses a subtask's id, which may be another caller's: alone it proves nothing.
    const alike = this.byTask.several(taskId) ?? this.byCorrelation.several(correlationId);
    if (ofTask !== undefined || alike !== undefined) {
      if (this.others > 0) return CONTESTED;
      return ofTask !== undefined ? ownedBy(ofTask, 'named') : this.oneOf(alike!, ids);
    }
    const { only } = this;
    // The request may be left over from a call that is over, if the agent has not noticed the end yet.
    return only && !this.namesEnded(ids) ? ownedBy(only, 'alone') : undefined;
  }

  private severalOfHead(ids: RequestIds): ReadonlySet<InboundCall> | undefined {
    const { passed } = ids;
    return (
      first(traceIdsOf(ids), (id) => this.byTrace.several(id)) ??
      (passed &&
        (this.byTask.several(passed.taskId) ??
          this.byCorrelation.several(passed.correlationId) ??
          this.byRequest.several(passed.requestId)))
    );
  }

  private oneOf(several: ReadonlySet<InboundCall>, ids: RequestIds): Owner {
    const [one] = several;
    const { callerScope } = one!;
    let callPath = one!.lineage.path;
    let { deadlineMs } = one!.clock;
    for (const call of several) {
      if (call.callerScope !== callerScope) return CONTESTED;
      const othersMs = call.clock.deadlineMs;
      deadlineMs = deadlineMs === 0 || othersMs === 0 ? 0 : Math.max(deadlineMs, othersMs);
      if (call.lineage.path !== callPath) callPath = '';
    }
    const isOther = (call: InboundCall): boolean => !several.has(call);
    if (this.someOfHead(ids, isOther)) return CONTESTED;
    return { call: undefined, by: 'one_of_several', callerScope, callPath, deadlineMs };
  }

  /** Whether one of the head's ids belonged to a call that is over. */
  private namesEnded(ids: RequestIds): boolean {
    const { passed } = ids;
    const isEnded = (id: string): boolean => id !== '' && this.ended.has(hashOf(id));
    if (traceIdsOf(ids).some(isEnded)) return true;
    if (passed === undefined) return false;
    return isEnded(passed.taskId) || isEnded(passed.correlationId) || isEnded(passed.requestId);
  }

  /** The running call, while there is only one. */
  private get only(): InboundCall | undefined {
    // Calls take the first free place, so it is most likely in one of the first.
    return this.size === 1 ? this.places.find((call) => call !== undefined) : undefined;
  }
}

export function ownedBy(call: InboundCall, by: 'named' | 'alone'): Owner {
  const { callerScope, clock, lineage } = call;
  return { call, by, callerScope, callPath: lineage.path, deadlineMs: clock.deadlineMs };
}

/** The trace of a recorded call may have started here. */
function traceOf({ trace, info }: InboundCall): string {
  return trace?.traceId ?? traceIdOf(info.traceparent);
}

function first<Found>(ids: readonly string[], find: (id: string) => Found | undefined): Found | undefined {
  for (const id of ids) {
    const found = find(id);
    if (found !== undefined) return found;
  }
  return undefined;
}
