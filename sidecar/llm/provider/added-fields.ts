/**
 * Adds to a request the fields that policies need: a maximum for a budget, and the request for a stream's usage. A provider
 * must never refuse a request for a field of ours, so a field that it refuses is taken out again: the provider has not run
 * the refused request.
 */

import type { RequestBudget } from '../../policy/request-budget.ts';
import { traitsOf } from '../kinds/operations.ts';
import { affordableOutput, type ModelPrice } from '../money/cost.ts';
import { withTopLevel } from '../request/json-edit.ts';
import { JsonScan } from '../request/json-scan.ts';
import type { ModelRequest } from '../request/model-request.ts';
import type { RequestFacts } from '../request/request-facts.ts';
import type { AddedField } from '../shared/addable-fields.ts';
import { bodyOf } from '../shared/body.ts';
import type { LlmSettings } from '../shared/llm-settings.ts';
import type { Target } from './target.ts';
import type { Upstream } from './upstream.ts';

export interface RequestChanges {
  /** The maximum for each choice of the answer; 0 leaves the request's own maximum, or its lack of one. */
  readonly maxOutputTokens: number;
  /** The added field with this maximum; undefined where none is needed, or the provider takes none. */
  readonly maxField: AddedField | undefined;
  /** The caller's own fields that get this maximum in place of a value without effect. */
  readonly bounded: readonly string[];
  /** Requests the usage of a stream that would not send it. */
  readonly askUsage: boolean;
}

const REFUSED: ReadonlySet<number> = new Set([400, 422]);
/** Matches a message about the field itself, and not about its value in this request. */
const UNKNOWN_FIELD =
  /\b(?:unknown|unsupported|unrecogni[sz]ed|unexpected|extra|additional|not (?:permitted|allowed|supported|recogni[sz]ed)|no such|does not (?:exist|support))\b|extra_forbidden/i;

/** The additions to one request, for each upstream that it is sent to. */
export class Additions {
  private readonly request: ModelRequest;
  private readonly settings: LlmSettings;
  /** Fields that the provider refused for this request; another request may have other values. */
  private readonly without = new Set<string>();
  private changes: RequestChanges = { maxOutputTokens: 0, maxField: undefined, bounded: [], askUsage: false };

  constructor(request: ModelRequest, settings: LlmSettings) {
    this.request = request;
    this.settings = settings;
  }

  /** Returns the changes that bound a request's tokens and make them countable. */
  changesFor(target: Target, nowMs: number, price: ModelPrice | undefined): RequestChanges {
    const { upstream } = target;
    const { facts, budget, spending } = this.request;
    const { streamUsage, limits } = this.settings;
    const { maxOutputFields, asksForUsage } = traitsOf(facts.operation);
    const mayAdd = (field: AddedField): boolean =>
      upstream.mayAdd(field, target.modelFor(facts), nowMs) && !this.without.has(keyOf(upstream, field));
    let maxOutputTokens = 0;
    let maxField: AddedField | undefined;
    let bounded: readonly string[] = [];
    const isBounded = spending.outputTokens > 0 && spending.unbounded.length === 0;
    if (budget !== undefined && !isBounded && maxOutputFields.length > 0) {
      const left = Math.floor(affordedOutput(budget, spending.inputTokens, price) / spending.choices);
      maxOutputTokens = spending.outputTokens || Math.max(0, Math.min(limits.defaultOutputTokens, left));
      bounded = spending.unbounded;
      if (bounded.length === 0)
        maxField = upstream.addable.find((field) => maxOutputFields.includes(field) && mayAdd(field));
    }
    const limited = budget !== undefined || limits.tokensPerMinute > 0;
    const wanted = streamUsage === 'always' || (streamUsage === 'auto' && limited);
    const canAsk = wanted && asksForUsage && facts.stream && !facts.includesUsage;
    this.changes = { maxOutputTokens, maxField, bounded, askUsage: canAsk && mayAdd('stream_options') };
    return this.changes;
  }

  /**
   * Whether the provider refused the request for a field that we added. The next attempt goes without the field, and so do
   * later requests if the upstream does not know it.
   *
   * @param body the body of the provider's error
   */
  wereRefused(target: Target, status: number, body: Buffer, nowMs: number): boolean {
    const { upstream } = target;
    if (!REFUSED.has(status)) return false;
    const text = body.toString('utf8');
    let refused = false;
    for (const field of this.added()) {
      if (!new RegExp(`(?<![a-z_])${nameOf(field)}(?![a-z_])`).test(text)) continue;
      refused = true;
      this.without.add(keyOf(upstream, field));
      if (UNKNOWN_FIELD.test(text)) upstream.refused.add(target.modelFor(this.request.facts), field, nowMs);
    }
    return refused;
  }

  private added(): AddedField[] {
    const { maxField, maxOutputTokens, askUsage } = this.changes;
    const added: AddedField[] = maxField !== undefined && maxOutputTokens > 0 ? [maxField] : [];
    // The provider may refuse an object of the caller's own: that is the caller's fault.
    if (askUsage && this.request.facts.streamOptions === undefined) added.push('stream_options');
    return added;
  }
}

/** Returns how many tokens of output a budget has room for, in tokens and in money. */
function affordedOutput(
  { tokens, money }: RequestBudget,
  inputTokens: number,
  price: ModelPrice | undefined,
): number {
  const left = tokens === undefined ? Number.MAX_SAFE_INTEGER : tokens.left - inputTokens;
  if (money === undefined || price === undefined) return left;
  return Math.min(left, affordableOutput(price, inputTokens, money.left));
}

/** The name of a field in the object that it stands in. */
function nameOf(field: string): string {
  return field.slice(field.indexOf('.') + 1);
}

function keyOf(upstream: Upstream, field: AddedField): string {
  return `${field} ${upstream.name}`;
}

/**
 * Returns the values of top-level keys that differ from the request's own, as JSON.
 *
 * @param model the model for the body; undefined leaves the request's own
 */
export function changedFields(
  facts: RequestFacts,
  model: string | undefined,
  { maxOutputTokens, maxField, bounded, askUsage }: RequestChanges,
): Map<string, string> {
  const values = new Map<string, string>();
  if (model !== undefined && model !== facts.bodyModel) values.set('model', JSON.stringify(model));
  if (maxOutputTokens > 0)
    for (const field of maxField === undefined ? bounded : [maxField])
      setField(values, facts, field, String(maxOutputTokens));
  if (askUsage) values.set('stream_options', JSON.stringify({ ...facts.streamOptions, include_usage: true }));
  return values;
}

/** Sets a field at the top level, or in an object there, whose other fields stay. */
function setField(values: Map<string, string>, { scan }: RequestFacts, field: string, json: string): void {
  const dot = field.indexOf('.');
  if (dot < 0) {
    values.set(field, json);
    return;
  }
  const outer = field.slice(0, dot);
  const inner = new Map([[field.slice(dot + 1), json]]);
  const text = scan?.fields.get(outer)?.texts.at(-1) ?? '{}';
  const nested = new JsonScan(new Set(inner.keys()));
  const body = bodyOf(Buffer.from(text));
  nested.push(body.parts[0]!);
  const { parts } = nested.isWhole
    ? withTopLevel(body, nested, inner)
    : withTopLevel(EMPTY, EMPTY_SCAN, inner);
  values.set(outer, Buffer.concat(parts).toString());
}

const EMPTY = bodyOf(Buffer.from('{}'));
const EMPTY_SCAN = new JsonScan(new Set());
EMPTY_SCAN.push(EMPTY.parts[0]!);
