/** Leads requests to providers other than OpenAI through the sidecar: their clients' base URLs, and the sidecar's upstreams. */
import { LOOPBACK } from './app-addresses.ts';
import { type EnvSource, hasVariable, ownVariable } from './env-sources.ts';
import { at, isObject, type JsonObject, stringAt } from './json.ts';
import { did, left, type Note, shown } from './notes.ts';

/** A provider that a container reaches through the sidecar. */
export interface LedProvider {
  /** The variable of its client's base URL, which becomes the sidecar's `http://HOST:PORT`. */
  readonly variable: string;
  /** The entry of `llm.upstreams`; without a key, because the app's own passes through. */
  readonly upstream: { readonly name: string; readonly kind: string; readonly url: string };
}

/** How one container reaches its other providers. */
export interface OtherModels {
  readonly led: readonly LedProvider[];
  readonly notes: readonly Note[];
}

export const NO_OTHERS: OtherModels = { led: [], notes: [] };

interface Provider {
  readonly kind: string;
  /** Variables that show that the container uses the provider. */
  readonly keys: RegExp;
  /** The variable of its client's base URL. */
  readonly url: string;
  /** The client's own default; undefined where the variable must name the provider. */
  readonly usual: string | undefined;
  /** A variable that leads its client elsewhere. */
  readonly unless: RegExp;
}

const NEVER = /^$/;

const PROVIDERS: readonly Provider[] = [
  {
    kind: 'anthropic',
    keys: /^ANTHROPIC_(?:API_KEY|AUTH_TOKEN)$/,
    url: 'ANTHROPIC_BASE_URL',
    usual: 'https://api.anthropic.com',
    unless: /^CLAUDE_CODE_USE_/,
  },
  {
    kind: 'gemini',
    keys: /^(?:GEMINI|GOOGLE)_API_KEY$/,
    url: 'GOOGLE_GEMINI_BASE_URL',
    usual: 'https://generativelanguage.googleapis.com',
    unless: /^GOOGLE_GENAI_USE_(?:VERTEXAI|ENTERPRISE)$/,
  },
  {
    kind: 'azure',
    keys: /^AZURE_OPENAI_(?:API_KEY|AD_TOKEN|ENDPOINT)$/,
    url: 'AZURE_OPENAI_ENDPOINT',
    usual: undefined,
    unless: NEVER,
  },
];

/** @param hasConfig the pod names its own configuration, which says where requests go */
export function otherModels(
  container: JsonObject,
  sources: readonly EnvSource[],
  name: string,
  hasConfig: boolean,
): OtherModels {
  const led: LedProvider[] = [];
  const notes: Note[] = [];
  for (const provider of PROVIDERS) {
    const { kind, keys, url: variable, unless } = provider;
    if (!hasVariable(container, sources, keys) || hasVariable(container, sources, unless)) continue;
    const address = addressOf(container, sources, provider);
    if (address === 'sidecar') continue;
    if ('stays' in address) notes.push(bypass(name, variable, address.stays));
    else if (hasConfig)
      notes.push(bypass(name, variable, 'the configuration of the pod says where requests go'));
    else led.push({ variable, upstream: { name: kind, kind, url: address.url } });
  }
  return { led, notes };
}

export function leads(name: string, { variable, upstream }: LedProvider): Note {
  return did(
    `${variable} of the container ${name} leads its requests through the sidecar to ${shown(upstream.url)}, with the app's own key`,
  );
}

export function bypass(name: string, variable: string, because: string): Note {
  return left(
    `requests of the container ${name} to the provider of ${variable} bypass the sidecar: ${because}`,
  );
}

function addressOf(
  container: JsonObject,
  sources: readonly EnvSource[],
  { url, usual }: Provider,
): 'sidecar' | { readonly url: string } | { readonly stays: string } {
  const own = ownVariable(container, url);
  const exactly = new RegExp(`^${url}$`);
  if (own === undefined) {
    if (hasVariable(container, sources, exactly))
      return { stays: `its value stands in envFrom; write ${url} in env` };
    return usual === undefined ? { stays: `${url} is not set; write it in env` } : { url: usual };
  }
  const value = stringAt(own, 'value') ?? '';
  if (isObject(at(own, 'valueFrom')) || /\$\(/.test(value))
    return { stays: `its value is not written out; write ${url} as a value` };
  if (LOOPBACK.test(value)) return 'sidecar';
  if (!URL.canParse(value) || !/^https?:$/.test(new URL(value).protocol))
    return { stays: `its value is no http or https URL` };
  return { url: value };
}
