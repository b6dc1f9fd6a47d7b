/**
 * Looks at one provider of models: whether it can be reached, and whether it takes the key. It asks for the list of models, which
 * costs no tokens.
 */
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { Path } from '../../config/problems.ts';
import type { ProviderKind } from '../../llm/kinds/traits.ts';
import type { HttpHeaders } from '../../llm/shared/headers.ts';
import type { ApiName } from '../../llm/shared/operation.ts';
import { isLiteral } from '../../net/address.ts';
import { unresolved } from './endpoint.ts';
import { type LiveResult, LOOK_MS, ok, problem, warning, within } from './finding.ts';

/** A key is checked by its dates, and so are tokens and signatures: a clock that is further off breaks them. */
const MAX_SKEW_MS = 60_000;

export interface ProviderToAsk {
  readonly path: Path;
  readonly url: string;
  /** What it is like: where its list of models is, and where its key stands. */
  readonly kind: ProviderKind;
  /** The configured version of its API; '' without one. */
  readonly version: string;
  readonly headers: Readonly<Record<string, string>>;
  /** The variable or the file that names the key; undefined where callers bring their own. */
  readonly keyName: string | undefined;
  readonly key: string | undefined;
}

interface Answer {
  readonly status: number;
  readonly date: string | undefined;
}

export async function lookAtProvider(provider: ProviderToAsk): Promise<LiveResult[]> {
  const { path, key, keyName } = provider;
  const asked = modelsUrl(provider);
  const target = `${asked.protocol}//${asked.host}${asked.pathname}`;
  const host = asked.hostname.replace(/^\[|\]$/g, '');
  const unknown = isLiteral(host) ? undefined : await unresolved([...path, 'url'], host);
  if (unknown !== undefined) return [unknown];
  if (key !== undefined && !/^[\x21-\x7e]+$/.test(key)) {
    const message = `the value of ${keyName} is no key: it has a space, a line break or another character`;
    return [
      problem([...path, 'api_key_env'], target, message, 'set the variable without quotes and line breaks'),
    ];
  }
  const withKey = key === undefined ? 'without a key' : `with the key of ${keyName}`;
  const sent = `GET ${target} ${withKey}; it costs no tokens`;
  const late = `there is no answer within ${LOOK_MS / 1000} s`;
  const answer = await within<Answer | string>(LOOK_MS, get(asked, provider), late);
  if (typeof answer === 'string') {
    const remedy = 'check the url, and that the network lets this machine or pod out';
    return [{ ...problem([...path, 'url'], target, answer, remedy), sent }];
  }
  const skewed = skewOf(path, target, answer);
  const judged = { ...judge(provider, target, answer.status), sent };
  return skewed === undefined ? [judged] : [judged, skewed];
}

/** The list of models under the base URL; its query may hold a version, as Azure's does. */
function modelsUrl({ url, kind, version }: ProviderToAsk): URL {
  const asked = new URL(url);
  const api = apiAskedOf(kind);
  const base = api === 'gemini' ? '/v1beta' : '/v1';
  const basePath = asked.pathname.replace(/\/$/, '');
  const [path = '', query] = kind
    .pathOf(basePath, { api, base, path: '/models', model: '' }, version)
    .split('?', 2);
  asked.pathname = path;
  if (query !== undefined) asked.search = asked.search === '' ? query : `${asked.search}&${query}`;
  return asked;
}

/** The API that is its own. */
function apiAskedOf({ apis }: ProviderKind): ApiName {
  return [...apis][0]!;
}

/** Resolves with why there is no answer. A user and a password in the url are sent as the egress sends them. */
function get(url: URL, { key, kind, headers: own }: ProviderToAsk): Promise<Answer | string> {
  return new Promise((resolve) => {
    const send = url.protocol === 'https:' ? httpsRequest : httpRequest;
    const headers: HttpHeaders = { accept: 'application/json', ...own };
    if (key !== undefined) kind.authorize(headers, {}, key, apiAskedOf(kind));
    const asked = send(url, { headers, agent: false }, (response) => {
      resolve({ status: response.statusCode ?? 0, date: response.headers.date });
      response.destroy();
    });
    asked.on('error', ({ code, message }: NodeJS.ErrnoException) =>
      resolve(`it can not be asked: ${code ?? message}`),
    );
    asked.setTimeout(LOOK_MS, () => asked.destroy());
    asked.end();
  });
}

function judge({ path, keyName, key }: ProviderToAsk, target: string, status: number): LiveResult {
  const keyPath = [...path, 'api_key_env'];
  const whose = `the key of ${keyName}`;
  if (status >= 200 && status < 300)
    return ok(path, target, key === undefined ? 'it answers' : `it answers, and takes ${whose}`);
  if (status === 401 || status === 403)
    return key === undefined
      ? ok(path, target, `it answers (${status} without a key, as expected)`)
      : problem(keyPath, target, `it refuses ${whose} (${status})`, `set ${keyName} to a valid key`);
  if (status === 402)
    return problem(
      keyPath,
      target,
      `the account of ${whose} has no credit (402)`,
      'pay, or use another account',
    );
  if (status === 429)
    return warning(
      path,
      target,
      'it throttles (429)',
      'the key is in use beyond its limits; wait, or raise them',
    );
  if (status >= 500)
    return problem(path, target, `it fails (${status})`, 'look at the status page of the provider');
  const message = `it answers, and has no list of models (${status}), so nothing is known of the key`;
  return warning(
    [...path, 'url'],
    target,
    message,
    'check the url if requests fail; some servers have no list',
  );
}

function skewOf(path: Path, target: string, { date }: Answer): LiveResult | undefined {
  const skewMs = Date.parse(date ?? '') - Date.now();
  if (!(Math.abs(skewMs) > MAX_SKEW_MS)) return undefined;
  const seconds = Math.round(Math.abs(skewMs) / 1000);
  const message = `the clock here is ${seconds} s ${skewMs > 0 ? 'behind' : 'ahead of'} that of the provider`;
  return warning(
    [...path, 'url'],
    target,
    message,
    'set the clock (NTP): certificates and tokens depend on it',
  );
}
