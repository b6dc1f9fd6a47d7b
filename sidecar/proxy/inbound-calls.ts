import { randomInt } from 'node:crypto';
import { hashOf } from '../collections/churn-map.ts';
import { type CallName, callNameIn } from '../policy/call-baggage.ts';
import { IdSource } from '../telemetry/ids.ts';
import { CallIndex } from './call-index.ts';
import { EndedIds } from './ended-ids.ts';
import type { InboundCall } from './inbound-call.ts';
import { binaryTraceOf, type RequestIds, traceIdOf, traceIdsOf } from './request-ids.ts';
import { tellsApart } from './rival-calls.ts';

/**
 * How an inbound call is known to be the one that a request of the app's is made for:
 *
 * - `named`: by what both of them carry, and nothing speaks for another running call;
 * - `alone`: no other call is running.
 *
 * Or it is not known, and then nobody's budget, end or failures are the request's:
 *
 * - `one_of_several`: several calls of one caller may be it. What is certain of all of them is certain of it;
 * - `contested`: calls of several callers may be it.
 */
export interface Owner {
  /** Undefined where it is not known. */
  readonly call: InboundCall | undefined;
  readonly by: 'named' | 'alone' | 'one_of_several' | 'contested';
  /** Whose call it is, in each case; undefined where that is contested. */
  readonly callerScope: string | undefined;
  /** The agents that the request has come through, as far as that is sure. */
  readonly callPath: string;
  /** When the call is over, or the last of those that may be it; 0 where that is not sure, or has no time. */
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
 * The inbound calls that the app is working on, so that what it sends can be told to belong to one: by the name that we
 * have given the call (`policy/call-baggage.ts`), by the trace that both are in, by a task's id or another one that came
 * with it, or because just one is running.
 *
 * All of these but the name are a caller's to choose. So an id proves nothing where two calls may have been meant: another
 * caller may have taken it to rule, or to end, what is done for the first.
 */
export class InboundCalls {
  /** A call's place stays its own while it runs. */
  private readonly places: (InboundCall | undefined)[] = [];
  private readonly freePlaces: number[] = [];
  private readonly byTrace = new CallIndex<InboundCall>();
  private readonly byTask = new CallIndex<InboundCall>();
  private readonly byCorrelation = new CallIndex<InboundCall>();
  private readonly byRequest = new CallIndex<InboundCall>();
  private readonly ended = new EndedIds();
  private readonly ids = new IdSource();
  /** Calls of one trace, or calls of several callers with one id, have run at the same time: ids do not say enough here. */
  private sharesIds = false;
  /** Whose some of the calls are, and how many of them are others'. */
  private scope = '';
  private others = 0;
  /** Tells our names from those of a sidecar that was here before. */
  readonly process = randomInt(2 ** 32) | 0;
  size = 0;

  /** @param named its calls in turn are to be known by a name, where ids do not tell them apart */
  add(call: InboundCall, named: boolean): void {
    if (call.runningAt >= 0) return;
    call.runningAt = this.freePlaces.pop() ?? this.places.length;
    this.places[call.runningAt] = call;
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
    if (named && (trace === '' || this.sharesIds)) call.nonce = this.ids.nextOdd();
  }

  private share(other: InboundCall | undefined, call: InboundCall): void {
    if (other !== undefined && other.callerScope !== call.callerScope) this.sharesIds = true;
  }

  delete(call: InboundCall): void {
    const { runningAt } = call;
    if (runningAt < 0) return;
    this.places[runningAt] = undefined;
    this.freePlaces.push(runningAt);
    this.size--;
    call.runningAt = -1;
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
    // It was the last one of that caller.
    this.scope = this.places.find((other) => other !== undefined)!.callerScope;
    this.others = 0;
    for (const other of this.places)
      if (other !== undefined && other.callerScope !== this.scope) this.others++;
  }

  /**
   * By what a request's head says, if nothing in it speaks for another call. `over` when it is made for a call that is over: then
   * it belongs to none of those that run. Undefined when the head does not say.
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
    // A call without a name has no nonce, and 0 is nobody's.
    return nonce !== 0 && call?.nonce === nonce ? call : undefined;
  }

  /** Whether a call that has one of the ids of a head passes the check. */
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

  /** By the ids of the task that a request brings, and by everything else. */
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
    // A subtask's id is the agent's to choose, and may be another caller's: alone it proves nothing.
    const alike = this.byTask.several(taskId) ?? this.byCorrelation.several(correlationId);
    if (ofTask !== undefined || alike !== undefined) {
      if (this.others > 0) return CONTESTED;
      return ofTask !== undefined ? ownedBy(ofTask, 'named') : this.oneOf(alike!, ids);
    }
    const { only } = this;
    // It may be what is left of a call that is over, whose agent has not heard of that.
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
    let { callPath, deadlineMs } = one!;
    for (const call of several) {
      if (call.callerScope !== callerScope) return CONTESTED;
      deadlineMs = deadlineMs === 0 || call.deadlineMs === 0 ? 0 : Math.max(deadlineMs, call.deadlineMs);
      if (call.callPath !== callPath) callPath = '';
    }
    const isOther = (call: InboundCall): boolean => !several.has(call);
    if (this.someOfHead(ids, isOther)) return CONTESTED;
    return { call: undefined, by: 'one_of_several', callerScope, callPath, deadlineMs };
  }

  /** Whether a head has an id that a call had which is over. */
  private namesEnded(ids: RequestIds): boolean {
    const { passed } = ids;
    const isEnded = (id: string): boolean => id !== '' && this.ended.has(hashOf(id));
    if (traceIdsOf(ids).some(isEnded)) return true;
    if (passed === undefined) return false;
    return isEnded(passed.taskId) || isEnded(passed.correlationId) || isEnded(passed.requestId);
  }

  /** The one that is running, while it is alone. */
  private get only(): InboundCall | undefined {
    // Places are given anew as soon as they are free: it is most likely in one of the first.
    return this.size === 1 ? this.places.find((call) => call !== undefined) : undefined;
  }
}

export function ownedBy(call: InboundCall, by: 'named' | 'alone'): Owner {
  const { callerScope, callPath, deadlineMs } = call;
  return { call, by, callerScope, callPath, deadlineMs };
}

/** A recorded call's trace may have begun here. */
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

/** Ends what is left of a call that nobody waits for. @param late its time was up */
export function endDependents(call: InboundCall, late: boolean): void {
  const { dependents } = call;
  if (dependents === undefined) return;
  call.dependents = undefined;
  for (const dependent of dependents) dependent.onOwnerGone(late);
}
