/**
 * Passes the reason why an agent's model did not answer on to the callers: from the egress beside the agent
 * (`llm/provider/notify-owner.ts`) to the call that the request was made for, and from a called agent to the one that
 * called it. An open circuit reports it as well, since it keeps its callers from the agent's own answer.
 */
import type { HeaderList } from '../http2/hpack/header-list.ts';
import type { CircuitBreaker } from '../policy/circuit-breaker.ts';
import {
  comingThrough,
  formatModelFailure,
  MODEL_FAILURE_HEADER,
  type ModelFailure,
  parseModelFailure,
} from '../policy/model-failure.ts';
import type { CallWith } from './call-facts.ts';
import type { Dependent } from './inbound-call.ts';
import type { LocalReply } from './reasons.ts';

/** A call that passes the failure on to its owner. */
type AnsweredCall = CallWith<'circuit' | 'context' | 'lineage'> & Dependent;

/** The model failure of the last failed attempt in each circuit; a circuit without one has no entry. */
const behindCircuits = new WeakMap<CircuitBreaker, string>();

/** The field that an inbound call's answer ends with. */
export function modelFailureField(
  { context }: CallWith<'context'>,
  failure: ModelFailure,
): readonly string[] {
  return [MODEL_FAILURE_HEADER, formatModelFailure(comingThrough(failure, context.name))];
}

/**
 * Adds the failure to an answer of our own, which may replace an agent's answer that is late or lost because of its
 * model.
 */
export function withModelFailure(call: CallWith<'context' | 'lineage'>, local: LocalReply): LocalReply {
  const { modelFailure: failure } = call.lineage;
  return failure === undefined ? local : { ...local, modelFailure: modelFailureField(call, failure)[1] };
}

/** Notes the failure of a call, and its cause if the answer reports one. */
export function noteModelFailure(call: AnsweredCall, list: HeaderList): void {
  const { circuit, context, lineage } = call;
  if (context.listener === 'inbound') {
    const { modelFailure } = lineage;
    const value = modelFailure && modelFailureField(call, modelFailure)[1];
    if (circuit !== undefined) remember(circuit.breaker, value);
    return;
  }
  const value = list.get(MODEL_FAILURE_HEADER);
  const failure = value === undefined ? undefined : parseModelFailure(value);
  if (circuit !== undefined) remember(circuit.breaker, failure === undefined ? undefined : value);
  // The caller's call may fail for the same reason. Exclude work that only seems to belong to a call.
  const owner = lineage.owner?.lineage;
  if (failure !== undefined && owner?.hasDependent(call) === true) owner.noteModelFailure(failure);
}

/** An attempt failed without an answer. */
export function forgetModelFailure({ circuit }: CallWith<'circuit'>): void {
  if (circuit !== undefined) behindCircuits.delete(circuit.breaker);
}

export function modelFailureBehind(breaker: CircuitBreaker): string | undefined {
  return behindCircuits.get(breaker);
}

function remember(breaker: CircuitBreaker, value: string | undefined): void {
  if (value === undefined) behindCircuits.delete(breaker);
  else behindCircuits.set(breaker, value);
}
