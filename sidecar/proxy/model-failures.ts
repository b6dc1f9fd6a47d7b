/**
 * Why an agent's model did not answer, on its way to whoever called: from the egress beside the agent
 * (`llm/provider/tell-owner.ts`) to the call it asked for, and from an agent that was called to the one that called it. An open
 * circuit says it as well: its callers would not hear from the agent.
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

/** Its owner is told why it failed. */
type AnsweredCall = CallWith<'owner' | 'circuit' | 'context' | 'modelFailure'> & Dependent;

/** Of the last attempt that failed in it; a circuit that knows none has no entry. */
const behindCircuits = new WeakMap<CircuitBreaker, string>();

/** The field that an inbound call's answer ends with. */
export function modelFailureField(
  { context }: CallWith<'context'>,
  failure: ModelFailure,
): readonly string[] {
  return [MODEL_FAILURE_HEADER, formatModelFailure(comingThrough(failure, context.name))];
}

/** An answer of ours in the place of the agent's, which may be late or gone because of its model. */
export function withModelFailure(call: CallWith<'context' | 'modelFailure'>, local: LocalReply): LocalReply {
  const { modelFailure: failure } = call;
  return failure === undefined ? local : { ...local, modelFailure: modelFailureField(call, failure)[1] };
}

/** An answer says that the call has failed, and perhaps why. */
export function noteModelFailure(call: AnsweredCall, list: HeaderList): void {
  const { owner, circuit, context } = call;
  if (context.listener === 'inbound') {
    const value = call.modelFailure && modelFailureField(call, call.modelFailure)[1];
    if (circuit !== undefined) remember(circuit.breaker, value);
    return;
  }
  const value = list.get(MODEL_FAILURE_HEADER);
  const failure = value === undefined ? undefined : parseModelFailure(value);
  if (circuit !== undefined) remember(circuit.breaker, failure === undefined ? undefined : value);
  // Whoever called this agent may fail for the same reason. Work that only seems to belong to a call says nothing of it.
  if (failure !== undefined && owner?.dependents?.has(call) === true) owner.modelFailure = failure;
}

/** An attempt has failed without an answer. */
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
