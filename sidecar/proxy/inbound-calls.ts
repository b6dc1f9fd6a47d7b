import { randomInt } from 'node:crypto';
import { type CallName, callNameIn } from '../policy/call-baggage.ts';
import type { ModelFailure } from '../policy/model-failure.ts';
import type { NotAgain } from '../policy/pushback.ts';
import { IdSource } from '../telemetry/ids.ts';
import { traceparentFromBinary } from '../telemetry/trace-context.ts';
import type { CallTrace } from '../telemetry/tracing/call-trace.ts';
import { CallIndex } from './call-index.ts';
import type { PassedIds } from './passed-ids.ts';
import type { RequestInfo } from './request-info.ts';

/** What belongs to a running inbound call, and ends with it when its caller gives up: an outbound call, a model's. */
export interface Dependent {
  /**
   * The inbound call is over without having been answered by the app: nobody waits any more.
   *
   * @param late its time was up; otherwise its caller has given up before
   */
  onOwnerGone(late: boolean): void;
}

/** An inbound call while the app works on it. */
export interface InboundCall {
  readonly info: RequestInfo;
  /** Null when the call is not recorded. */
  readonly trace: CallTrace | null | undefined;
  readonly task: { readonly taskId: string; readonly correlationId: string } | undefined;
  /** On the listener's clock; 0 without a deadline. */
  readonly deadlineMs: number;
  /** What its agent's own calls say of where they come from. */
  readonly callPath: string;
  /** The app has had calls made for it that were tried to the end: hops above must not multiply them. */
  notAgain: NotAgain;
  dependents: Set<Dependent> | undefined;
  /** Where it is among those that are running; -1 while it is not. Only {@link InboundCalls} writes it. */
  runningAt: number;
  /** Makes its name unlike that of the call before it in its place; 0 when it has no name. So too. */
  nonce: number;
  /** Tokens of the requests to models that were made for it, as far as they are over. */
  modelTokens: number;
  /** Of the last request to a model that was made for it, here or by an agent that it called; undefined where that succeeded. */
  modelFailure: ModelFailure | undefined;
}

/** Ids that a request of the app carries; '' for each one that it does not. */
export interface RequestIds {
  readonly traceparent: string;
  readonly traceBinary: string;
  readonly passed: PassedIds | undefined;
}

/**
 * How an inbound call is known to be the one that a request of the app's is made for:
 *
 * - `named`: by what both of them carry, and no other running call does;
 * - `alone`: no other call is running;
 * - `one_of_several`: several carry it. This one has the most time left, so that nothing ends before its time.
 */
export interface Owner {
  readonly call: InboundCall;
  readonly by: 'named' | 'alone' | 'one_of_several';
  /** The agents that the request has come through, as far as that is sure. */
  readonly callPath: string;
}

/**
 * The inbound calls that the app is working on, so that what it sends can be told to belong to one: by the name that we
 * have given the call (`policy/call-baggage.ts`), by the trace that both are in, by a task's id or another one that came
 * with it, or because just one is running.
 */
export class InboundCalls {
  /** A call's place stays its own while it runs. */
  private readonly places: (InboundCall | undefined)[] = [];
  private readonly freePlaces: number[] = [];
  private readonly byTrace = new CallIndex<InboundCall>();
  private readonly byTask = new CallIndex<InboundCall>();
  private readonly byCorrelation = new CallIndex<InboundCall>();
  private readonly byRequest = new CallIndex<InboundCall>();
  private readonly ids = new IdSource();
  /** Calls of one trace have run at the same time, so a trace's id does not say enough here. */
  private sharesTraces = false;
  /** Tells our names from those of a sidecar that was here before. */
  readonly process = randomInt(2 ** 32) | 0;
  size = 0;

  /** @param named its calls in turn are to be known by a name, where a trace does not tell them apart */
  add(call: InboundCall, named: boolean): void {
    if (call.runningAt >= 0) return;
    call.runningAt = this.freePlaces.pop() ?? this.places.length;
    this.places[call.runningAt] = call;
    this.size++;
    const { info, task } = call;
    const trace = traceOf(call);
    if (this.byTrace.add(trace, call)) this.sharesTraces = true;
    if (named && (trace === '' || this.sharesTraces)) call.nonce = this.ids.nextOdd();
    const { passed } = info;
    if (passed !== undefined) {
      for (const id of passed.traceIds) this.byTrace.add(id, call);
      this.byRequest.add(passed.requestId, call);
    }
    if (info.traceBinary !== '') this.byTrace.add(binaryTraceOf(info), call);
    if (task === undefined) return;
    this.byTask.add(task.taskId, call);
    this.byCorrelation.add(task.correlationId, call);
  }

  delete(call: InboundCall): void {
    const { runningAt } = call;
    if (runningAt < 0) return;
    this.places[runningAt] = undefined;
    this.freePlaces.push(runningAt);
    this.size--;
    call.runningAt = -1;
    const { info, task } = call;
    this.byTrace.delete(traceOf(call), call);
    const { passed } = info;
    if (passed !== undefined) {
      for (const id of passed.traceIds) this.byTrace.delete(id, call);
      this.byRequest.delete(passed.requestId, call);
    }
    if (info.traceBinary !== '') this.byTrace.delete(binaryTraceOf(info), call);
    if (task === undefined) return;
    this.byTask.delete(task.taskId, call);
    this.byCorrelation.delete(task.correlationId, call);
  }

  /**
   * By what a request's head says and no other call's does. Null when it is made for a call that is over: then it belongs
   * to none of those that run. Undefined when the head does not say.
   */
  ofHead(ids: RequestIds): InboundCall | null | undefined {
    const { passed } = ids;
    const name = passed?.baggage === undefined ? undefined : callNameIn(passed.baggage);
    if (name !== undefined && name.process === this.process) return this.ofName(name);
    return (
      (passed && this.byTask.only(passed.taskId)) ??
      first(traceIdsOf(ids), (id) => this.byTrace.only(id)) ??
      (passed && (this.byCorrelation.only(passed.correlationId) ?? this.byRequest.only(passed.requestId)))
    );
  }

  private ofName({ place, nonce }: CallName): InboundCall | null {
    const call = this.places[place];
    // A call without a name has no nonce, and 0 is nobody's.
    return nonce !== 0 && call?.nonce === nonce ? call : null;
  }

  /** By the ids of the task that a request brings, and by everything else. */
  ownerOf(ids: RequestIds, taskId: string, correlationId: string): Owner | undefined {
    if (this.size === 0) return undefined;
    const ofHead = this.ofHead(ids);
    if (ofHead === null) return undefined;
    const call = ofHead ?? this.byTask.only(taskId) ?? this.byCorrelation.only(correlationId);
    if (call !== undefined) return { call, by: 'named', callPath: call.callPath };
    const { passed } = ids;
    const several =
      first(traceIdsOf(ids), (id) => this.byTrace.several(id)) ??
      this.byTask.several(taskId) ??
      this.byCorrelation.several(correlationId) ??
      (passed && this.byRequest.several(passed.requestId));
    if (several !== undefined) return oneOf(several);
    const { only } = this;
    return only && { call: only, by: 'alone', callPath: only.callPath };
  }

  /** The one that is running, while it is alone. */
  private get only(): InboundCall | undefined {
    // Places are given anew as soon as they are free: it is most likely in one of the first.
    return this.size === 1 ? this.places.find((call) => call !== undefined) : undefined;
  }
}

function oneOf(several: ReadonlySet<InboundCall>): Owner {
  const [one] = several;
  let chosen = one!;
  let { callPath } = chosen;
  for (const call of several) {
    if (call.deadlineMs === 0 || (chosen.deadlineMs !== 0 && call.deadlineMs >= chosen.deadlineMs))
      chosen = call;
    if (call.callPath !== callPath) callPath = '';
  }
  return { call: chosen, by: 'one_of_several', callPath };
}

/** A recorded call's trace may have begun here. */
function traceOf({ trace, info }: InboundCall): string {
  return trace?.traceId ?? traceIdOf(info.traceparent);
}

/** Of libraries that sent it before there was `traceparent`. */
function binaryTraceOf({ traceBinary }: Pick<RequestIds, 'traceBinary'>): string {
  return traceIdOf(traceparentFromBinary(traceBinary) ?? '');
}

function traceIdsOf(ids: RequestIds): readonly string[] {
  const own = traceIdOf(ids.traceparent);
  if (ids.passed === undefined && ids.traceBinary === '') return own === '' ? NO_IDS : [own];
  return [own, binaryTraceOf(ids), ...(ids.passed?.traceIds ?? NO_IDS)];
}

const NO_IDS: readonly string[] = [];

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

/** W3C trace context: `version-traceid-parentid-flags`. '' when it is not one; its other parts are read elsewhere. */
export function traceIdOf(traceparent: string): string {
  if (traceparent.length < 55 || traceparent.charCodeAt(2) !== 45 || traceparent.charCodeAt(35) !== 45)
    return '';
  return traceparent.slice(3, 35);
}
