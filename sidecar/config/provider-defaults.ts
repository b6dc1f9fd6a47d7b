/** What holds of the providers of models where no setting says otherwise; for the schema and for the environment's variables. */

export const LLM_LISTEN = '127.0.0.1:15002';

/** The upstream that a client of openai's asks by itself. */
export const DEFAULT_PROVIDER = {
  name: 'openai',
  url: 'https://api.openai.com/v1',
  api_key_env: 'OPENAI_API_KEY',
} as const;
