/** Decides whether a caller of the service may name the models of a request. Pure. */

import type { Asked } from '../kinds/asked.ts';
import { traitsOf } from '../kinds/operations.ts';
import type { ServiceCaller } from '../service/service-caller.ts';
import type { Operation } from '../shared/operation.ts';
import type { JsonScan } from './json-scan.ts';
import { MODEL_CHOOSERS } from './request-facts.ts';
import { isGiven } from './spending.ts';

/** Why a request is refused to a caller, in words for it. */
export interface Forbidden {
  readonly reason: 'unknown_model' | 'forbidden' | 'bad_request';
  readonly message: string;
}

interface Named {
  readonly method: string;
  readonly asked: Pick<Asked, 'path' | 'model'>;
  readonly operation: Operation;
}

/**
 * Returns why the caller may not send such a request, as far as its head shows; undefined where it may. A caller that may name
 * only some models may not use what names none: files, batches and stored answers are of all callers of the provider's account.
 */
export function forbiddenByHead(
  client: ServiceCaller,
  { method, asked, operation }: Named,
): Forbidden | undefined {
  if (!client.isRestricted) return undefined;
  const traits = traitsOf(operation);
  if (operation === 'models' && method === 'GET') {
    const [, , name = ''] = asked.path.split('?', 1)[0]!.split('/');
    return name === '' || client.mayName(decodeURIComponentSafely(name))
      ? undefined
      : { reason: 'unknown_model', message: client.notAllowed(name) };
  }
  if (traits.readsRequest) {
    const { model } = asked;
    if (model === '' || client.mayName(model)) return undefined;
    return { reason: 'unknown_model', message: client.notAllowed(model) };
  }
  return {
    reason: 'forbidden',
    message: `the caller ${client.name} may use only some models (llm.callers[].models), and this path names none that can be read`,
  };
}

/** The same for the body. @param pathModel the model that the path names; '' without one */
export function forbiddenByBody(
  client: ServiceCaller,
  operation: Operation,
  pathModel: string,
  scan: JsonScan | undefined,
): Forbidden | undefined {
  if (!client.isRestricted || !traitsOf(operation).readsRequest) return undefined;
  const onlySome = `the caller ${client.name} may use only some models (llm.callers[].models)`;
  const isJson = scan?.isWhole === true && !scan.isLenient;
  if (!isJson || scan.lookalike !== undefined) {
    const fault = isJson
      ? `its key ${JSON.stringify(scan.lookalike)} is another one to a server that ignores case; write it as the API does`
      : 'the body is no JSON object as RFC 8259 has it';
    return {
      reason: 'bad_request',
      message: `${fault}: the model of the request would be unknown, and ${onlySome}`,
    };
  }
  const chooser = ['models', ...MODEL_CHOOSERS].find((key) => scan.fields.has(key));
  if (chooser !== undefined || scan.hasInnerModel) {
    const what =
      chooser === undefined
        ? 'an object inside the request names a model, which'
        : `the key "${chooser}" of the request`;
    return {
      reason: 'forbidden',
      message: `${what} lets the provider take another one; ${onlySome}, so name one in "model" alone`,
    };
  }
  const stored = operation === 'responses' && STORED.find((key) => isGiven(scan, key));
  if (stored)
    return {
      reason: 'forbidden',
      message: `the key "${stored}" reads what is stored for all callers of the provider's account; ${onlySome}, so send the conversation itself`,
    };
  // Servers differ in which of two equal keys they take.
  const texts = scan.fields.get('model')?.texts ?? [];
  if (texts.length === 0 && pathModel === '')
    return { reason: 'unknown_model', message: client.notAllowed('') };
  for (const text of texts) {
    const model = nameIn(text);
    if (model === undefined || !client.mayName(model))
      return { reason: 'unknown_model', message: client.notAllowed(model ?? '') };
  }
  return undefined;
}

/** Keys of the Responses API that name what the provider has stored. */
const STORED = ['previous_response_id', 'conversation', 'prompt'] as const;

function nameIn(text: string | undefined): string | undefined {
  try {
    const value: unknown = JSON.parse(text ?? '');
    return typeof value === 'string' ? value : undefined;
  } catch {
    return undefined;
  }
}

function decodeURIComponentSafely(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
