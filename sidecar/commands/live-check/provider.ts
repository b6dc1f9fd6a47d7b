/**
 * Looks at one provider of models: whether it can be reached, whether it takes the key, and whether it has the models that the
 * configuration names. It asks for the list of models, and Azure for deployments with requests that it must refuse: neither costs
 * tokens.
 */
import { readFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { Path } from '../../config/problems.ts';
import { apiOf } from '../../llm/kinds/operations.ts';
import type { ProviderKind } from '../../llm/kinds/traits.ts';
import type { HttpHeaders } from '../../llm/shared/headers.ts';
import type { ApiName } from '../../llm/shared/operation.ts';
import { isLiteral } from '../../net/address.ts';
import { tlsErrorOf } from '../../tls/failure.ts';
import { unresolved } from './endpoint.ts';
import { type LiveResult, LOOK_MS, ok, problem, warning, within } from './finding.ts';
import { lacksDeployment, missingFrom, namesIn } from './provider-models.ts';

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
  /** A file with the authorities that its certificate may have; undefined is those of the system. */
  readonly ca: string | undefined;
  /** The models, or Azure's deployments, that the configuration asks it for. */
  readonly models: readonly string[];
}

interface Answer {
  readonly status: number;
  readonly date: string | undefined;
  readonly body: string;
}

/** Longer lists are not read. */
const MAX_BODY_BYTES = 8_388_608;
/** Gemini refuses a wrong key with a 400. */
const WRONG_KEY = /API_KEY_INVALID|API key not valid/;

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
  const answer = await within<Answer | string>(LOOK_MS, ask(asked, provider), late);
  if (typeof answer === 'string') {
    const isCertificate = answer.includes('certificate');
    const remedy = isCertificate
      ? "give the upstream the ca of the provider's authority, or mend the url or the certificate"
      : 'check the url, and that the network lets this machine or pod out';
    return [{ ...problem([...path, 'url'], target, answer, remedy), sent }];
  }
  const skewed = skewOf(path, target, answer);
  const judged = { ...judge(provider, target, answer), sent };
  const results = skewed === undefined ? [judged] : [judged, skewed];
  return judged.level === 'ok' ? [...results, ...(await modelResults(provider, target, answer))] : results;
}

/** Says which of the configured models the provider lacks. */
async function modelResults(
  provider: ProviderToAsk,
  target: string,
  { status, body }: Answer,
): Promise<LiveResult[]> {
  const { path, kind, models } = provider;
  if (kind.name === 'azure') {
    if (provider.key === undefined) return [];
    return (await Promise.all(models.map((name) => lookAtDeployment(provider, name)))).flat();
  }
  const names = status < 300 ? namesIn(body, apiOf(apiAskedOf(kind)).models) : undefined;
  // Some servers answer with an empty list.
  if (names === undefined || names.length === 0) return [];
  const remedy =
    'check the name in llm.models or llm.upstreams[].model; an alias of the provider may be missing in its list';
  return models.flatMap((model) => {
    const missing = missingFrom(names, model);
    return missing === undefined ? [] : [warning([...path, 'model'], target, missing, remedy)];
  });
}

/** An empty request is refused for its content where there is such a deployment, and costs nothing. */
async function lookAtDeployment(provider: ProviderToAsk, name: string): Promise<LiveResult[]> {
  const { path, version } = provider;
  const base = version === '' ? '/openai/v1' : '/openai/deployments/x';
  const asked = urlOf(provider, base, '/chat/completions', name);
  const target = `${asked.protocol}//${asked.host}${asked.pathname}`;
  const answer = await within<Answer | string>(
    LOOK_MS,
    ask(asked, provider, JSON.stringify({ model: name })),
    'late',
  );
  if (typeof answer === 'string' || !lacksDeployment(answer.status, answer.body)) return [];
  const message = `it has no deployment ${name} (404)`;
  const remedy = 'create the deployment, or correct its name in llm.models or llm.upstreams[].model';
  const sent = `POST ${target} without messages; it costs no tokens`;
  return [{ ...problem([...path, 'model'], target, message, remedy), sent }];
}

/** The list of models under the base URL; its query may hold a version, as Azure's does. */
function modelsUrl(provider: ProviderToAsk): URL {
  const api = apiAskedOf(provider.kind);
  const base = api === 'gemini' ? '/v1beta' : '/v1';
  return urlOf(provider, base, `/models${apiOf(api).models.query}`, '');
}

function urlOf({ url, kind, version }: ProviderToAsk, base: string, below: string, model: string): URL {
  const asked = new URL(url);
  const basePath = asked.pathname.replace(/\/$/, '');
  const api = apiAskedOf(kind);
  const [path = '', query] = kind.pathOf(basePath, { api, base, path: below, model }, version).split('?', 2);
  asked.pathname = path;
  if (query !== undefined) asked.search = asked.search === '' ? query : `${asked.search}&${query}`;
  return asked;
}

/** The API that is its own. */
function apiAskedOf({ apis }: ProviderKind): ApiName {
  return [...apis][0]!;
}

/** Resolves with why there is no answer. A user and a password in the url are sent as the egress sends them. */
function ask(url: URL, provider: ProviderToAsk, body?: string): Promise<Answer | string> {
  const { key, kind, headers: own, ca } = provider;
  return new Promise((resolve) => {
    const send = url.protocol === 'https:' ? httpsRequest : httpRequest;
    const headers: HttpHeaders = { accept: 'application/json', ...own };
    if (key !== undefined) kind.authorize(headers, {}, key, apiAskedOf(kind));
    if (body !== undefined) headers['content-type'] = 'application/json';
    const trusted = ca === undefined ? {} : { ca: readFileSync(ca) };
    const method = body === undefined ? 'GET' : 'POST';
    const asked = send(url, { method, headers, agent: false, ...trusted }, (response) => {
      let text = '';
      const done = (): void => {
        resolve({ status: response.statusCode ?? 0, date: response.headers.date, body: text });
        response.destroy();
      };
      response.setEncoding('utf8').on('data', (part: string) => {
        text += part;
        if (text.length > MAX_BODY_BYTES) done();
      });
      response.on('end', done);
      response.on('error', done);
    });
    asked.on('error', (error: NodeJS.ErrnoException) =>
      resolve(`it can not be asked: ${tlsErrorOf(error)?.message ?? error.code ?? error.message}`),
    );
    asked.setTimeout(LOOK_MS, () => asked.destroy());
    asked.end(body);
  });
}

function judge(
  { path, keyName, key, kind }: ProviderToAsk,
  target: string,
  { status, body }: Answer,
): LiveResult {
  const keyPath = [...path, 'api_key_env'];
  const whose = `the key of ${keyName}`;
  if (status >= 200 && status < 300)
    return ok(path, target, key === undefined ? 'it answers' : `it answers, and takes ${whose}`);
  if (status === 401 || status === 403 || (status === 400 && WRONG_KEY.test(body)))
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
  if (status === 404 && kind.name !== 'compatible')
    return problem(
      [...path, 'url'],
      target,
      `it answers, and has nothing there (404): the path of the url is wrong for the kind ${kind.name}`,
      'correct the url, or the kind: docs/llm-egress.md has one of each',
    );
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
