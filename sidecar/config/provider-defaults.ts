/** The defaults of the providers of models, for the schema and for the environment's variables. */

export const LLM_LISTEN = '127.0.0.1:15002';

/** The upstream that OpenAI's client uses by default. */
export const DEFAULT_PROVIDER = {
  name: 'openai',
  url: 'https://api.openai.com/v1',
  api_key_env: 'OPENAI_API_KEY',
} as const;
