/**
 * The provider of models from the environment: `OPENAI_BASE_URL` names it where no setting does. Variables that are
 * unused or missing give a notice instead of being ignored.
 */
import { ownApis, providerKind } from '../llm/kinds/kinds.ts';
import { DEFAULT_PROVIDER, LLM_LISTEN } from '../llm/shared/llm-settings.ts';
import type { KindName } from '../llm/shared/operation.ts';
import { readAddress } from '../net/address.ts';
import { reaches } from '../net/reach.ts';
import { formatPath } from './problems.ts';
import { valueAt, withValue } from './raw-values.ts';
import { redactUrl } from './redact.ts';
import type { FileConfig } from './schema.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/** A setting that works, but perhaps not as intended. */
export interface Notice {
  /** `warn` when a setting refers to a missing variable, `info` otherwise. */
  readonly level: 'info' | 'warn';
  readonly message: string;
}

const BASE_URL = 'OPENAI_BASE_URL';
const UPSTREAMS = ['llm', 'upstreams'];
const PROXIES = ['HTTPS_PROXY', 'https_proxy', 'ALL_PROXY', 'all_proxy'];

/** `raw` with the provider of `OPENAI_BASE_URL`, if `raw` names no upstream and the variable is usable. */
export function withProvider(raw: unknown, env: Environment): unknown {
  const url = env[BASE_URL];
  if (url === undefined || url === '' || valueAt(raw, UPSTREAMS) !== undefined) return raw;
  const listen = valueAt(raw, ['llm', 'listen']);
  if (!isProvider(url) || isOurs(url, typeof listen === 'string' ? listen : LLM_LISTEN)) return raw;
  return withValue(raw, UPSTREAMS, [{ ...DEFAULT_PROVIDER, url }]);
}

/**
 * @param file the effective configuration
 * @param isNamed whether a setting names the upstreams
 */
export function providerNotices(file: FileConfig, isNamed: boolean, env: Environment): Notice[] {
  return [
    ...baseUrlNotices(file, isNamed, env),
    // Without a setting we expect the agent's own key to pass through.
    ...(isNamed ? file.llm.upstreams.flatMap((_, index) => keyNotices(file, index, env)) : []),
    ...file.llm.upstreams.flatMap((_, index) => wrongKeyNotices(file, index, env)),
    ...proxyNotices(file, isNamed, env),
  ];
}

function baseUrlNotices({ llm }: FileConfig, isNamed: boolean, env: Environment): Notice[] {
  const url = env[BASE_URL];
  if (url === undefined || url === '' || llm.upstreams.some((one) => plain(one.url) === plain(url)))
    return [];
  const say = (level: Notice['level'], why: string): Notice[] => [
    { level, message: `${BASE_URL} (${redactUrl(url)}) is not used: ${why}` },
  ];
  if (!isProvider(url)) return say('warn', 'it is no http or https URL');
  if (isOurs(url, llm.listen)) return say('info', 'it is our own llm.listen, where the agent asks');
  return say('warn', isNamed ? 'llm.upstreams names the providers; add it there' : 'it can not be read');
}

function keyNotices(file: FileConfig, index: number, env: Environment): Notice[] {
  const { api_key_env: name, api_key_file, url } = file.llm.upstreams[index]!;
  if (name === null || api_key_file !== null || (env[name] ?? '') !== '') return [];
  const path = formatPath(['llm', 'upstreams', index, 'api_key_env']);
  const { username, password } = new URL(url);
  const instead =
    username !== '' || password !== ''
      ? 'the sidecar sends the user and the password of its url'
      : isFirst(file, index)
        ? "the sidecar forwards the callers' own credentials"
        : 'requests go there without credentials';
  const message = `${path}: the variable ${name} is not set, so ${instead}; set it, or write null`;
  return [{ level: 'warn', message }];
}

/** Whether the clients of an API would ask this upstream without the egress: it passes their own credentials on. */
function isFirst({ llm: { upstreams } }: FileConfig, index: number): boolean {
  const apis = upstreams.map(({ kind, url }) =>
    ownApis(providerKind(kind ?? undefined, new URL(url)), kind !== null),
  );
  return [...apis[index]!].some((api) => apis.findIndex((own) => own.has(api)) === index);
}

/** How the keys of providers begin, for those that tell. */
const KEY_FORMS: readonly (readonly [form: RegExp, kind: KindName, of: string])[] = [
  [/^sk-ant-/, 'anthropic', 'Anthropic'],
  [/^AIza/, 'gemini', 'Google'],
  [/^sk-(?:proj|svcacct|admin)-/, 'openai', 'OpenAI'],
];

/** A key that shows that it is another provider's. */
function wrongKeyNotices(file: FileConfig, index: number, env: Environment): Notice[] {
  const { api_key_env: name, kind, url } = file.llm.upstreams[index]!;
  const key = name === null ? '' : (env[name]?.trim() ?? '');
  const own = providerKind(kind ?? undefined, new URL(url)).name;
  const form = KEY_FORMS.find(([begins]) => begins.test(key));
  if (form === undefined || own === form[1] || own === 'compatible') return [];
  const path = formatPath(['llm', 'upstreams', index, 'api_key_env']);
  const message = `${path}: the value of ${name} begins as a key of ${form[2]}, and the upstream is of kind ${own}; name the variable of its own key`;
  return [{ level: 'warn', message }];
}

/** A client that connects to its provider directly would use this proxy. */
function proxyNotices({ llm }: FileConfig, isNamed: boolean, env: Environment): Notice[] {
  const name = PROXIES.find((one) => (env[one] ?? '') !== '');
  if (name === undefined) return [];
  const direct = (env['NO_PROXY'] ?? env['no_proxy'] ?? '').split(',').map((host) => host.trim());
  const hosts = llm.upstreams
    .map(({ url }) => new URL(url))
    .filter(({ protocol, hostname }) => protocol === 'https:' && !isDirect(hostname, direct))
    .map(({ hostname }) => hostname);
  if (hosts.length === 0) return [];
  const message = `${name} is not used: ${[...new Set(hosts)].join(', ')} must be reachable without a proxy`;
  return [{ level: isNamed ? 'warn' : 'info', message }];
}

function isDirect(hostname: string, direct: readonly string[]): boolean {
  return direct.some((host) => {
    const suffix = host.replace(/^\*?\./, '').replace(/:\d+$/, '');
    return host === '*' || (suffix !== '' && (hostname === suffix || hostname.endsWith(`.${suffix}`)));
  });
}

function isProvider(url: string): boolean {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  return parsed !== undefined && /^https?:$/.test(parsed.protocol) && parsed.hash === '';
}

function isOurs(url: string, listen: string): boolean {
  const { hostname, port, protocol } = new URL(url);
  try {
    return reaches(
      readAddress(`${hostname}:${port || (protocol === 'https:' ? 443 : 80)}`),
      readAddress(listen),
    );
  } catch {
    return false;
  }
}

function plain(url: string): string {
  return URL.canParse(url) ? new URL(url).href.replace(/\/$/, '') : url;
}
