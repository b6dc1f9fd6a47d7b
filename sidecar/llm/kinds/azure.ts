/**
 * The kind of upstream for Azure OpenAI. It has OpenAI's API (`openai.ts`) under paths of its own.
 *
 * - paths: `/openai/v1/…`, where the model is the name of a deployment; with `api_version` (or with the client's own)
 *   `/openai/deployments/NAME/…?api-version=`
 * - key: `api-key`; a token of Entra goes as `Authorization: Bearer`
 * - everything else is as with OpenAI
 */
import { OPENAI_QUOTAS } from './openai.ts';
import type { AskedPath, ProviderKind } from './traits.ts';

/** The base of a request by a client of Azure for one deployment. */
const DEPLOYMENT_BASE = /^\/openai\/deployments\/[^/]+$/;
/** A configured URL that names a deployment, a version of the API, or Azure's other models keeps its path. */
const COMPLETE_BASE = /\/openai\/(?:v1|deployments\/[^/]+)$|^\/models$/;
/** Operations that a deployment has; files, batches and lists of models stand beside them. */
const OF_DEPLOYMENT = /^\/(?:chat|completions|embeddings|images|audio)(?:\/|\?|$)/;
const VERSION = /[?&]api-version=([^&]*)/;

function usesDeployments(basePath: string, { base }: Pick<AskedPath, 'base'>, version: string): boolean {
  return !COMPLETE_BASE.test(basePath) && (version !== '' || DEPLOYMENT_BASE.test(base));
}

function pathOf(basePath: string, asked: AskedPath, version: string): string {
  const { base, path, model } = asked;
  if (COMPLETE_BASE.test(basePath)) return basePath + withoutVersion(path);
  const root = basePath.endsWith('/openai') ? basePath : `${basePath}/openai`;
  if (usesDeployments(basePath, asked, version)) {
    const place = OF_DEPLOYMENT.test(path) && model !== '' ? `/deployments/${encodeURIComponent(model)}` : '';
    return `${root}${place}${withVersion(path, version)}`;
  }
  // A client of Azure that asks for files or batches names the version itself.
  if (base === '/openai' && VERSION.test(path)) return root + path;
  return `${root}/v1${path}`;
}

/** Puts the configured version into the query, in the place of the client's own. */
function withVersion(path: string, version: string): string {
  if (version === '') return path;
  const plain = withoutVersion(path);
  return `${plain}${plain.includes('?') ? '&' : '?'}api-version=${encodeURIComponent(version)}`;
}

/** Removes `api-version` from a query: other providers refuse it, or ignore it. */
export function withoutVersion(path: string): string {
  if (!path.includes('api-version=')) return path;
  const at = path.indexOf('?');
  if (at < 0) return path;
  const kept = path
    .slice(at + 1)
    .split('&')
    .filter((part) => !part.startsWith('api-version='));
  return path.slice(0, at) + (kept.length > 0 ? `?${kept.join('&')}` : '');
}

export const AZURE: ProviderKind = {
  name: 'azure',
  apis: new Set(['openai']),
  alsoSpeaks: new Set(),
  hosts: /\.(?:openai|cognitiveservices|services\.ai)\.azure\.(?:com|us|cn)$/,
  pathOf,
  isModelInPath: usesDeployments,
  authorize: (sent, _callers, key) => {
    // A token of Entra is a JSON Web Token.
    if (key.startsWith('eyJ')) sent['authorization'] = `Bearer ${key}`;
    else sent['api-key'] = key;
  },
  quotas: OPENAI_QUOTAS,
};
