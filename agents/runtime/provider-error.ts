import type OpenAI from 'openai';
import { redactProvider } from '../process/redact.ts';
import type { ModelFailure } from '../protocol/model-failure.ts';

type ProviderError = InstanceType<typeof OpenAI.APIError>;

const longestMessageChars = 300;

/** Words of providers for an account that is used up: waiting does not help, paying does. */
const unpaidCodes: ReadonlySet<unknown> = new Set([
  'insufficient_quota',
  'billing_hard_limit_reached',
  'billing_not_active',
  'billing_error',
  'insufficient_balance',
  'insufficient_credits',
  'credits_exhausted',
]);

/** Does the provider refuse for money? */
export function isUnpaid({ status, code, type }: ProviderError): boolean {
  return status === 402 || unpaidCodes.has(code) || unpaidCodes.has(type);
}

/** Reads the provider's refusal from an error of the openai client; behind a sidecar also the provider's name. */
export function modelFailureOf(error: ProviderError, secrets: readonly string[]): ModelFailure {
  const { headers, status, type, code } = error;
  // In the middle of a stream there is only its last event to say so.
  const ofStream = type === 'outrigger_error' ? (code ?? '') : '';
  const reason = headers?.get('outrigger-reason') ?? ofStream;
  return {
    // An answer of the sidecar's own has a status of the sidecar's.
    status: reason === '' ? (status ?? 0) : 0,
    reason,
    upstream: headers?.get('outrigger-upstream') ?? '',
    path: '',
    model: '',
    message: messageOf(error, secrets),
    way: [],
  };
}

/** On one line, bounded, and without keys; '' when the provider gave none. */
function messageOf(error: ProviderError, secrets: readonly string[]): string {
  const { status } = error;
  // The client's own words, or the status and what the body says.
  const said = status === undefined ? error.message : error.message.replace(/^\d{3} /, '');
  if (said === 'status code (no body)' || said.startsWith('<')) return '';
  const line = redactProvider(said, secrets)
    .replace(/[\p{C}\s]+/gu, ' ')
    .trim();
  return line.length <= longestMessageChars ? line : `${line.slice(0, longestMessageChars - 1)}…`;
}
