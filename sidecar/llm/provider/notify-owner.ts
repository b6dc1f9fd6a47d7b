/** Notifies the owner call that a request to a model has failed, and why; the call passes that on to the task's caller. */
import type { ModelFailure } from '../../policy/model-failure.ts';
import type { LlmOutcome } from '../../telemetry/llm-stats.ts';
import { oneLine, providerMessage, withoutKeys } from '../answer/provider-message.ts';
import type { ModelRequest } from '../request/model-request.ts';
import { secretsOf } from '../shared/provider-credentials.ts';
import { statusOfEnd } from './attempt-verdict.ts';
import type { ProviderAttemptEnd } from './provider-attempt-owner.ts';
import type { Upstream } from './upstream.ts';

export interface RequestEnd {
  /** As in `LlmRecord`. */
  readonly reason: string;
  /** The message of a refusal; '' without one. */
  readonly refusal: string;
  /** The upstream of the last attempt; undefined without an attempt. */
  readonly upstream: Upstream | undefined;
  /** The model at that upstream. */
  readonly model: string;
  readonly last: ProviderAttemptEnd | undefined;
}

export function notifyOwner(request: ModelRequest, outcome: LlmOutcome, end: RequestEnd): void {
  const { ownerCall } = request;
  // A request that the agent has cancelled says nothing about the provider.
  if (ownerCall?.modelEnded === undefined || outcome === 'cancelled') return;
  ownerCall.modelEnded(outcome === 'success' ? undefined : failureOf(request, end));
}

/** Describes a failed attempt, for later refusals and for operators; '' for a success. */
export function describeAttempt(request: ModelRequest, upstream: Upstream, end: ProviderAttemptEnd): string {
  const status = statusOfEnd(end);
  if (end.failure === undefined && status < 400) return '';
  const what = end.failure?.message ?? `${upstream.name}: answered ${status}`;
  return oneLine(withoutKeys(joined(what, providerMessage(end.errorBody)), secretsIn(request, upstream)));
}

function joined(...parts: string[]): string {
  return parts.filter((part) => part !== '').join(': ');
}

function failureOf(
  request: ModelRequest,
  { reason, refusal, upstream, model, last }: RequestEnd,
): ModelFailure {
  const said = last === undefined ? '' : providerMessage(last.errorBody);
  const message = joined(refusal || (last?.failure?.message ?? ''), said);
  const status = last === undefined ? 0 : statusOfEnd(last);
  const path = (upstream?.pathOf(request.asked, model) ?? request.path).split('?', 1)[0]!;
  return {
    status,
    // A number is the provider's status, which `status` has already.
    reason: /^\d+$/.test(reason) ? '' : reason,
    upstream: upstream?.name ?? '',
    path,
    model,
    message: oneLine(withoutKeys(message, secretsIn(request, upstream))) + hintFor(status, path),
    way: [],
  };
}

/** Returns the sent credentials, in the forms in which a provider may repeat them. */
function secretsIn(request: ModelRequest, upstream: Upstream | undefined): string[] {
  const own = upstream?.keys ?? [];
  const callers = secretsOf(request.headers).map((line) => line.slice(line.indexOf(': ') + 2));
  return [...own, ...callers]
    .flatMap((secret) => [secret, secret.replace(/^\S+ /, '')])
    .sort((one, other) => other.length - one.length);
}

/** Hints at the most common mistake with a base URL. */
function hintFor(status: number, path: string): string {
  return status === 404 && !/\/v\d|\/openai\//.test(path) ? ' (is /v1 missing from the base URL?)' : '';
}

/** Returns the failure of a request whose path is not below the base path. */
export function wrongPath(url: string, message: string): ModelFailure {
  const path = url.split('?', 1)[0]!;
  return { status: 0, reason: 'no_route', upstream: '', path, model: '', message, way: [] };
}
