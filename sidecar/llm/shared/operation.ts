/** Names the operations of providers' APIs, and the APIs themselves. */

/** The APIs that clients are written for. Nothing is translated between them. */
export const API_NAMES = ['openai', 'anthropic', 'gemini'] as const;

export type ApiName = (typeof API_NAMES)[number];

export type Operation =
  | 'chat'
  | 'completions'
  | 'responses'
  | 'messages'
  | 'count_tokens'
  | 'generate'
  | 'embeddings'
  | 'embed'
  | 'images'
  | 'models'
  | 'audio'
  | 'files'
  | 'batches'
  | 'realtime'
  | 'other';

/** The operations whose requests name a model that the egress reads. */
export const ROUTED_OPERATIONS = [
  'chat',
  'completions',
  'responses',
  'messages',
  'count_tokens',
  'generate',
  'embeddings',
  'embed',
  'images',
] as const satisfies readonly Operation[];

/** The kinds of upstreams; `kinds/` has a file for each. */
export const KIND_NAMES = ['openai', 'azure', 'anthropic', 'gemini', 'compatible'] as const;

export type KindName = (typeof KIND_NAMES)[number];
