/**
 * Decides which header fields of a request travel with its task, and which of an answer come back. Pure.
 *
 * | fields                                                             | travel                                   |
 * | ------------------------------------------------------------------ | ---------------------------------------- |
 * | of one hop (`grpc/hop-fields.ts`): te, content-*, grpc-*, …        | no; the consumer's call has its own      |
 * | who is asking: authorization, cookies, certificates of clients     | only if `bus.carry_headers` names them   |
 * | names that speak of secrets (`x-api-key`, `session-token`, …), and `inbound.tasks.scope_headers` | only if `bus.carry_headers` names them |
 * | `outrigger-*`: the path of agents, the token budget                | yes, but for those of one hop            |
 * | all others: traceparent, tracestate, baggage, metadata of the app  | yes                                      |
 *
 * A log stores what travels, for as long as it stores the task.
 */
import { isOfAnAnswersHop, isOfARequestsHop } from '../../grpc/hop-fields.ts';
import { BAGGAGE_HEADER, withoutCall } from '../../policy/call-baggage.ts';
import type { Fields } from './payload.ts';

/** These fields say who is asking, or prove it by a secret. */
const CREDENTIAL =
  /^(?:client-cert(?:-chain)?|x-forwarded-client-cert|x-amz-security-.*|.*-signature)$|auth|cookie|key|token|secret|passw|credential|session|jwt|assertion/;
const OWN_PREFIX = 'outrigger-';

export interface CarryRules {
  /** `bus.carry_headers`: they travel although they may hold secrets. Lower case. */
  readonly carryHeaders: readonly string[];
  /** `inbound.tasks.scope_headers`: they tell callers apart, as credentials do. Lower case. */
  readonly scopeHeaders: readonly string[];
}

/** The fields of a request that a log may store. */
export function carriedFields(fields: Fields, rules: CarryRules): string[] {
  const carried: string[] = [];
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i]!;
    if (isOfARequestsHop(name)) continue;
    if (!rules.carryHeaders.includes(name) && isSecret(name, rules)) continue;
    const value = fields[i + 1]!;
    // It names a call of this sidecar, which is no other's.
    const carriedValue = name === BAGGAGE_HEADER ? withoutCall(value) : value;
    if (carriedValue !== '' || value === '') carried.push(name, carriedValue);
  }
  return carried;
}

function isSecret(name: string, { scopeHeaders }: CarryRules): boolean {
  if (name.startsWith(OWN_PREFIX)) return false;
  return scopeHeaders.includes(name) || CREDENTIAL.test(name);
}

/** The fields of an answer's head, or of its trailers, that its caller receives. */
export function answeredFields(fields: Fields): string[] {
  const answered: string[] = [];
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i]!;
    if (!isOfAnAnswersHop(name)) answered.push(name, fields[i + 1]!);
  }
  return answered;
}
