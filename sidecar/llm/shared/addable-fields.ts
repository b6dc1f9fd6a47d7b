/** Knows which fields the egress may add to a provider's requests: by the provider's host, and by what it refused before. */

/** The fields that budgets and limits may add to a request. */
export const ADDED_FIELDS = [
  'max_completion_tokens',
  'max_tokens',
  'max_output_tokens',
  'generationConfig.maxOutputTokens',
  'stream_options',
] as const;

export type AddedField = (typeof ADDED_FIELDS)[number];

/** The fields in the order of preference: OpenAI has deprecated `max_tokens`, and its reasoning models refuse it. */
const OPENAI: readonly AddedField[] = ADDED_FIELDS;
/** Mistral sends the usage of each stream unasked, and refuses fields that it does not know. */
const MISTRAL: readonly AddedField[] = ['max_tokens'];
/** Nearly all providers with OpenAI's API take the older name, and many take only that. */
const COMPATIBLE: readonly AddedField[] = [
  'max_tokens',
  'max_completion_tokens',
  'max_output_tokens',
  'generationConfig.maxOutputTokens',
  'stream_options',
];

const HOSTS: readonly (readonly [host: RegExp, fields: readonly AddedField[]])[] = [
  [/(?:^|\.)openai\.com$/, OPENAI],
  [/\.(?:openai|cognitiveservices|services\.ai)\.azure\.(?:com|us|cn)$/, OPENAI],
  [/(?:^|\.)mistral\.ai$/, MISTRAL],
];

/** Returns the fields that a provider at this host takes. */
export function fieldsOfHost(hostname: string): readonly AddedField[] {
  return HOSTS.find(([host]) => host.test(hostname))?.[1] ?? COMPATIBLE;
}

/** After this time the field is tried again: providers learn new fields. */
const REMEMBERED_MS = 3_600_000;
const MAX_REMEMBERED = 1_000;

/** Remembers the fields that one upstream refused, for each model: one model takes a field that another refuses. */
export class RefusedFields {
  private readonly untilMs = new Map<string, number>();

  has(model: string, field: AddedField, nowMs: number): boolean {
    return this.untilMs.size > 0 && (this.untilMs.get(`${field} ${model}`) ?? 0) > nowMs;
  }

  add(model: string, field: AddedField, nowMs: number): void {
    const key = `${field} ${model}`;
    this.untilMs.delete(key);
    this.untilMs.set(key, nowMs + REMEMBERED_MS);
    if (this.untilMs.size <= MAX_REMEMBERED) return;
    const [oldest] = this.untilMs.keys();
    this.untilMs.delete(oldest!);
  }
}
