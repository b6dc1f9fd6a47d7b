import { ChurnMap, hashOf } from '../collections/churn-map.ts';
import type { CallTrace } from '../telemetry/tracing/call-trace.ts';
import type { RequestInfo } from './request-info.ts';

/** What belongs to a running inbound call, and ends with it when its caller gives up: an outbound call, a model's. */
export interface Dependent {
  /** The inbound call is over without having been answered by the app: nobody waits any more. */
  onOwnerGone(): void;
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
  retriesEnded: boolean;
  dependents: Set<Dependent> | undefined;
  /** Where it is among those that are running; -1 while it is not. Only {@link InboundCalls} writes it. */
  runningAt: number;
  /** Tokens of the requests to models that were made for it, as far as they are over. */
  modelTokens: number;
}

/** How sure it is that a request of the app is made for an inbound call. */
export interface Owner {
  readonly call: InboundCall;
  /** By what both of them carry; otherwise because no other call is running. */
  readonly certain: boolean;
}

/**
 * The inbound calls that the app is working on, so that what it sends can be told to belong to one: by the trace that
 * both are in, by the task's id or the correlation id, or because just one is running. Agents that pass on what came
 * with a task are matched surely; an agent that passes on nothing is matched as well as can be.
 */
export class InboundCalls {
  private readonly running: InboundCall[] = [];
  private readonly byTrace = new CallIndex();
  private readonly byTask = new CallIndex();
  private readonly byCorrelation = new CallIndex();

  get size(): number {
    return this.running.length;
  }

  add(call: InboundCall): void {
    if (call.runningAt >= 0) return;
    call.runningAt = this.running.push(call) - 1;
    this.byTrace.add(traceOf(call), call);
    const { task } = call;
    if (task === undefined) return;
    this.byTask.add(task.taskId, call);
    this.byCorrelation.add(task.correlationId, call);
  }

  delete(call: InboundCall): void {
    const { runningAt } = call;
    if (runningAt < 0) return;
    const last = this.running.pop()!;
    if (last !== call) {
      this.running[runningAt] = last;
      last.runningAt = runningAt;
    }
    call.runningAt = -1;
    this.byTrace.delete(traceOf(call), call);
    const { task } = call;
    if (task === undefined) return;
    this.byTask.delete(task.taskId, call);
    this.byCorrelation.delete(task.correlationId, call);
  }

  /** By a request's `traceparent`. */
  ofTrace(traceparent: string): InboundCall | undefined {
    return this.byTrace.last(traceIdOf(traceparent));
  }

  ofTask(taskId: string, correlationId: string): InboundCall | undefined {
    return this.byTask.last(taskId) ?? this.byCorrelation.last(correlationId);
  }

  /** The one that is running, while it is alone. */
  get only(): InboundCall | undefined {
    return this.running.length === 1 ? this.running[0] : undefined;
  }

  /** The call that a request with these belongs to; '' for what it does not carry. */
  ownerOf(traceparent: string, taskId: string, correlationId: string): Owner | undefined {
    if (this.running.length === 0) return undefined;
    const certain = this.ofTrace(traceparent) ?? this.ofTask(taskId, correlationId);
    if (certain !== undefined) return { call: certain, certain: true };
    const { only } = this;
    return only === undefined ? undefined : { call: only, certain: false };
  }
}

/** A recorded call's trace may have begun here, or have come as `grpc-trace-bin`. */
function traceOf({ trace, info }: InboundCall): string {
  return trace?.traceId ?? traceIdOf(info.traceparent);
}

/** Ends what is left of a call that nobody waits for. */
export function endDependents(call: InboundCall): void {
  const { dependents } = call;
  if (dependents === undefined) return;
  call.dependents = undefined;
  for (const dependent of dependents) dependent.onOwnerGone();
}

/** Several calls that share a text. */
interface Sharing {
  readonly calls: Set<InboundCall>;
  last: InboundCall;
}

/** Calls by a text that several may share; most do not. */
class CallIndex {
  private readonly single = new ChurnMap<InboundCall>();
  private readonly shared = new ChurnMap<Sharing>();

  add(key: string, call: InboundCall): void {
    if (key === '') return;
    const hash = hashOf(key);
    const sharing = this.shared.size === 0 ? undefined : this.shared.get(key, hash);
    const single = this.single.get(key, hash);
    if (sharing !== undefined) {
      sharing.calls.add(call);
      sharing.last = call;
    } else if (single === undefined) {
      this.single.set(key, call, hash);
    } else {
      this.single.delete(key, hash);
      this.shared.set(key, { calls: new Set([single, call]), last: call }, hash);
    }
  }

  delete(key: string, call: InboundCall): void {
    if (key === '') return;
    const hash = hashOf(key);
    if (this.single.get(key, hash) === call) {
      this.single.delete(key, hash);
      return;
    }
    const sharing = this.shared.get(key, hash);
    if (sharing?.calls.delete(call) !== true) return;
    if (sharing.calls.size === 0) this.shared.delete(key, hash);
    else if (sharing.last === call) for (const other of sharing.calls) sharing.last = other;
  }

  /** The one that was added last: it has most likely caused what comes now. */
  last(key: string): InboundCall | undefined {
    if (key === '') return undefined;
    const hash = hashOf(key);
    return this.single.get(key, hash) ?? this.shared.get(key, hash)?.last;
  }
}

/** W3C trace context: `version-traceid-parentid-flags`. '' when it is not one; its other parts are read elsewhere. */
export function traceIdOf(traceparent: string): string {
  if (traceparent.length < 55 || traceparent.charCodeAt(2) !== 45 || traceparent.charCodeAt(35) !== 45)
    return '';
  return traceparent.slice(3, 35);
}
