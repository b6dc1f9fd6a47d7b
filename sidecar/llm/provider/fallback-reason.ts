/** Says which answers of one upstream may lead a request on to another, where its chain says so. Pure. */
import { apiOf } from '../kinds/operations.ts';
import type { FallbackReason } from '../shared/llm-settings.ts';
import type { ApiName } from '../shared/operation.ts';
import type { ProviderFailure } from '../shared/provider-failure.ts';

const STATUSES: Readonly<Record<number, FallbackReason>> = {
  401: 'unauthorized',
  403: 'forbidden',
  404: 'not_found',
};
/** The statuses with which providers refuse a prompt for its length. */
const TOO_LONG: ReadonlySet<number> = new Set([400, 413, 422]);

/** @param body the error, or its message */
export function fallbackReason(
  { reason, status }: ProviderFailure,
  body: Buffer,
  api: ApiName,
): FallbackReason | undefined {
  if (reason !== 'status') return undefined;
  if (TOO_LONG.has(status) && apiOf(api).tooLong.test(body.toString('utf8'))) return 'context_length';
  return STATUSES[status];
}
