/** Knows which fields a provider takes from us: by its host, and by what it has refused before. */

/** In the order in which they are preferred. */
export type AddedField = 'max_completion_tokens' | 'max_tokens' | 'max_output_tokens' | 'stream_options';

/** `max_tokens` is deprecated there, and models that reason refuse it. */
const OPENAI: readonly AddedField[] = [
  'max_completion_tokens',
  'max_tokens',
  'max_output_tokens',
  'stream_options',
];
/** It tells the usage of each stream by itself, and refuses what it does not know. */
const MISTRAL: readonly AddedField[] = ['max_tokens'];
/** Nearly all that speak OpenAI's API take the older name, and many only that. */
const COMPATIBLE: readonly AddedField[] = [
  'max_tokens',
  'max_completion_tokens',
  'max_output_tokens',
  'stream_options',
];

const HOSTS: readonly (readonly [host: RegExp, fields: readonly AddedField[]])[] = [
  [/(?:^|\.)openai\.com$/, OPENAI],
  [/\.(?:openai|cognitiveservices|services\.ai)\.azure\.(?:com|us|cn)$/, OPENAI],
  [/(?:^|\.)mistral\.ai$/, MISTRAL],
];

/** The fields that a known host takes. */
export function fieldsOfHost(hostname: string): readonly AddedField[] {
  return HOSTS.find(([host]) => host.test(hostname))?.[1] ?? COMPATIBLE;
}

/** Providers learn, too: after this it is tried again. */
const REMEMBERED_MS = 3_600_000;
const MAX_REMEMBERED = 1_000;

/** What one upstream has refused, by model: of one provider's models some take what others don't. */
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
