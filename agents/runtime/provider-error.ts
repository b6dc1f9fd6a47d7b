/** Reads a model provider's errors. */
import type OpenAI from 'openai';
import { redactProvider } from '../process/redact.ts';
import type { ModelFailure } from '../protocol/model-failure.ts';

export type ProviderError = InstanceType<typeof OpenAI.APIError>;

/**
 * Whether an openai client threw the error. Its fields decide, not its class: an agent may have a copy of the package of
 * its own, or none.
 */
export function isProviderError(error: unknown): error is ProviderError {
  return error instanceof Error && PROVIDER_ERROR_FIELDS.every((name) => Object.hasOwn(error, name));
}

const PROVIDER_ERROR_FIELDS = ['status', 'headers', 'error', 'requestID'];

/** Whether the provider could not be reached at all. */
export function isConnectionError(error: ProviderError): boolean {
  for (let type = error.constructor; type?.name; type = Object.getPrototypeOf(type))
    if (type.name === 'APIConnectionError') return true;
  return false;
}

const longestMessageChars = 300;

/** Error codes of providers for an exhausted account: waiting does not help, payment does. */
const unpaidCodes: ReadonlySet<unknown> = new Set([
  'insufficient_quota',
  'billing_hard_limit_reached',
  'billing_not_active',
  'billing_error',
  'insufficient_balance',
  'insufficient_credits',
  'credits_exhausted',
]);

/** Whether the provider refuses because of payment. */
export function isUnpaid({ status, code, type }: ProviderError): boolean {
  return status === 402 || unpaidCodes.has(code) || unpaidCodes.has(type);
}

/** Reads the provider's refusal from an error of the openai client; behind a sidecar, also the provider's name. */
export function modelFailureOf(error: ProviderError, secrets: readonly string[]): ModelFailure {
  const { headers, status, type, code } = error;
  // In the middle of a stream, only its last event reports the failure.
  const ofStream = type === 'outrigger_error' ? (code ?? '') : '';
  const reason = headers?.get('outrigger-reason') ?? ofStream;
  return {
    // If the sidecar answered, the status is the sidecar's own.
    status: reason === '' ? (status ?? 0) : 0,
    reason,
    upstream: headers?.get('outrigger-upstream') ?? '',
    path: '',
    model: '',
    message: messageOf(error, secrets),
    way: [],
  };
}

/** The message on one line, bounded, and without keys; '' when the provider sent none. */
function messageOf(error: ProviderError, secrets: readonly string[]): string {
  const { status } = error;
  // The client's own message, or the status and the body's message.
  const said = status === undefined ? error.message : error.message.replace(/^\d{3} /, '');
  if (said === 'status code (no body)' || said.startsWith('<')) return '';
  const line = redactProvider(said, secrets)
    .replace(/[\p{C}\s]+/gu, ' ')
    .trim();
  return line.length <= longestMessageChars ? line : `${line.slice(0, longestMessageChars - 1)}…`;
}
