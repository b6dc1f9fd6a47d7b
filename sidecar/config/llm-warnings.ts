/** Finds settings of the egress that work, and are surely a mistake; and says which APIs each chain of models serves. */
import { ownApis, providerKind } from '../llm/kinds/kinds.ts';
import { apiOf } from '../llm/kinds/operations.ts';
import { covers } from '../llm/shared/model-pattern.ts';
import { API_NAMES } from '../llm/shared/operation.ts';
import type { Finding } from './problems.ts';
import type { Notice } from './provider-environment.ts';
import type { FileConfig } from './schema.ts';

type FileLlm = FileConfig['llm'];
type FileModel = FileLlm['models'][number];

export function llmWarnings({ llm }: FileConfig): Finding[] {
  return [...equalUpstreams(llm), ...shadowedModels(llm), ...unusedUpstreams(llm), ...brokenChains(llm)];
}

function equalUpstreams({ upstreams }: FileLlm): Finding[] {
  const of = ({ url, api_key_env: key, api_key_file: file, model, headers }: FileLlm['upstreams'][number]) =>
    JSON.stringify([url.replace(/\/$/, ''), key, file, model, headers]);
  const all = upstreams.map(of);
  return all.flatMap((one, index) => {
    const first = all.indexOf(one);
    if (first === index) return [];
    const message = `is the same provider as upstreams[${first}]: a fallback to it asks the one that has just failed`;
    return [finding(['llm', 'upstreams', index], message, 'remove it, or give it another url, key or model')];
  });
}

function shadowedModels({ models }: FileLlm): Finding[] {
  return models.flatMap((model, index) => {
    const by = models.slice(0, index).findIndex((earlier) => takesAllOf(earlier, model));
    if (by < 0) return [];
    const path = ['llm', 'models', index];
    const message = `gets no request: models[${by}] takes each one that it would take`;
    return [finding(path, message, `move it before models[${by}], or remove it`)];
  });
}

function takesAllOf(earlier: FileModel, later: FileModel): boolean {
  if (!covers(earlier.match, later.match)) return false;
  if (earlier.operations.length === 0) return true;
  return later.operations.length > 0 && later.operations.every((one) => earlier.operations.includes(one));
}

function unusedUpstreams({ models, upstreams }: FileLlm): Finding[] {
  if (models.length === 0) return [];
  const used = new Set(models.flatMap(({ use }) => use.map(({ upstream }) => upstream)));
  return upstreams.flatMap(({ name }, index) =>
    used.has(name)
      ? []
      : [
          finding(
            ['llm', 'upstreams', index],
            'gets no request that names a model: no entry of llm.models has it',
            'add it to a chain, or remove it',
          ),
        ],
  );
}

/** A chain whose places share no API: a request that fails at one of them never goes on to another. */
function brokenChains(llm: FileLlm): Finding[] {
  return llm.models.flatMap((model, index) => {
    const parts = servedBy(llm, model).filter(({ upstreams }) => upstreams.length > 0);
    const fallsBack = parts.some(({ upstreams }) => upstreams.length > 1);
    if (model.use.length < 2 || fallsBack || parts.length < 2) return [];
    const serves = parts
      .map(({ title, upstreams }) => `${title} with ${upstreams.join(', ')} alone`)
      .join(', ');
    const message = `serves ${serves}: no request goes from one to the other, because nothing is translated`;
    return [
      finding(
        ['llm', 'models', index, 'use'],
        message,
        'give each API a chain of its own, or a second upstream',
      ),
    ];
  });
}

/** One line for each chain: the APIs that it serves, and those that it serves with none. */
export function chainNotices({ llm }: FileConfig): Notice[] {
  return llm.models.map((model, index) => {
    const parts = servedBy(llm, model).map(
      ({ title, upstreams }) => `${title} with ${upstreams.length === 0 ? 'none' : upstreams.join(', ')}`,
    );
    const message = `llm.models[${index}] (${model.match}) serves ${parts.join('; ')}`;
    return { level: 'info', message };
  });
}

function servedBy({ upstreams }: FileLlm, { use }: FileModel) {
  return API_NAMES.map((api) => ({
    title: apiOf(api).title,
    upstreams: use.flatMap(({ upstream: name }) => {
      const found = upstreams.find((one) => one.name === name);
      if (found === undefined) return [];
      const kind = providerKind(found.kind ?? undefined, new URL(found.url));
      return ownApis(kind, found.kind !== null).has(api) || kind.alsoSpeaks.has(api) ? [name] : [];
    }),
  }));
}

function finding(path: Finding['path'], message: string, remedy: string): Finding {
  return { path, part: 'value', message, remedy };
}
