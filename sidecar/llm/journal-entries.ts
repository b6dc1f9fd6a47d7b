/** Says which requests have a place in the journal: those for a task that is certain, whose answers the egress can check. */

import { jsonPathAt } from '../journal/record/json-path.ts';
import type { JournalEntry } from '../journal/run/journal-entry.ts';
import { traitsOf } from './kinds/operations.ts';
import type { EgressContext } from './provider/egress-context.ts';
import type { ModelRequest } from './request/model-request.ts';
import type { RequestHead } from './request/read-head.ts';
import { type Body, viewsOf } from './shared/body.ts';
import { textOf } from './shared/headers.ts';

/** Fields that change what an equal body asks for. */
const VARIANT_FIELDS = ['anthropic-version', 'anthropic-beta', 'openai-beta'] as const;
/** A longer key counts as none. */
const MAX_KEY_LENGTH = 512;

/** Whether the answer to a request is kept, as far as its head shows. */
export function isJournaled(
  { journal }: EgressContext,
  { method, operation, ownerCall }: Pick<RequestHead, 'method' | 'operation' | 'ownerCall'>,
): boolean {
  if (journal?.isOn !== true || method !== 'POST' || !traitsOf(operation).answersJson) return false;
  return ownerCall?.run !== undefined && ownerCall.callerScope !== undefined;
}

/** The request's place in the journal of its run; undefined without one. */
export function journalEntry({ journal }: EgressContext, request: ModelRequest): JournalEntry | undefined {
  const { asked, print, method, path, headers, ownerCall } = request;
  const run = ownerCall?.run;
  if (journal === undefined || print === undefined || run === undefined) return undefined;
  const key = textOf(headers['idempotency-key']) ?? '';
  // A query may hold a key, and the base the name of the model.
  const [plain = '', query = ''] = path.split('?', 2);
  return journal.of(run)?.enter({
    method,
    path: plain,
    print,
    variant: JSON.stringify([
      asked.base,
      query,
      ...VARIANT_FIELDS.map((name) => textOf(headers[name]) ?? ''),
    ]),
    idempotencyKey: key.length > MAX_KEY_LENGTH ? '' : key,
    names: () => {
      const { parts, bytes } = request.body;
      return (fromByte, toByte) => nameIn({ parts, bytes }, fromByte, toByte);
    },
  });
}

function nameIn(body: Body, fromByte: number, toByte: number): string {
  const text = Buffer.concat(viewsOf(body, 0, toByte));
  const from = jsonPathAt(text, fromByte);
  const to = jsonPathAt(text, toByte);
  // Behind the value come only brackets.
  return from.startsWith(to) ? from : `${from} … ${to}`;
}
