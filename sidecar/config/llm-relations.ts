/** Checks of the egress that span several settings. */
import { providerKind } from '../llm/kinds/kinds.ts';
import { pricesIn } from '../llm/money/price-book.ts';
import { readAddress } from '../net/address.ts';
import { reaches } from '../net/reach.ts';
import { parseDurationMs } from '../settings/duration.ts';
import { checkCertificates, checkFiles, finding } from './file-checks.ts';
import { type Finding, nearest } from './problems.ts';
import type { FileConfig } from './schema.ts';

type FileUpstream = FileConfig['llm']['upstreams'][number];

export function checkLlm({ llm }: FileConfig): Finding[] {
  const names = llm.upstreams.map(({ name }) => name);
  const findings = llm.upstreams.flatMap((upstream, index) => {
    const { name, url } = upstream;
    const path = ['llm', 'upstreams', index];
    if (reaches(readAddress(hostOf(url)), readAddress(llm.listen))) {
      const remedy = 'write the base URL of the provider';
      return [finding([...path, 'url'], 'is our own llm.listen: requests would loop', remedy)];
    }
    if (names.indexOf(name) !== index)
      return [finding([...path, 'name'], `appears twice: ${name}`, 'give each upstream a name of its own')];
    return checkUpstream(path, upstream);
  });
  if (parseDurationMs(llm.retry.backoff.base)! > parseDurationMs(llm.retry.backoff.max)!) {
    const path = ['llm', 'retry', 'backoff', 'base'];
    findings.push(finding(path, 'is longer than max', 'raise max or lower base'));
  }
  return [...findings, ...checkPrices(llm.prices_file), ...checkModels(llm.models, names)];
}

function checkPrices(file: string | null): Finding[] {
  if (file === null) return [];
  const path = ['llm', 'prices_file'];
  const findings = checkFiles(['llm'], { prices_file: file }, ['prices_file'], 'a file of prices');
  if (findings.length > 0) return findings;
  try {
    pricesIn(file);
    return [];
  } catch (error) {
    const because = error instanceof Error ? error.message : String(error);
    return [
      finding(path, `can not be used: ${because}`, 'correct the file; `as_of` and `prices` are its keys'),
    ];
  }
}

function checkModels(models: FileConfig['llm']['models'], names: readonly string[]): Finding[] {
  return models.flatMap(({ use }, index) =>
    use.flatMap(({ upstream, weight }, at) => {
      const path = ['llm', 'models', index, 'use', at];
      if (!names.includes(upstream)) {
        const close = nearest(upstream, names);
        const remedy =
          close === undefined
            ? `add it to llm.upstreams; there are ${names.slice(0, 20).join(', ')}`
            : `did you mean ${close}?`;
        return [finding([...path, 'upstream'], `there is no upstream ${JSON.stringify(upstream)}`, remedy)];
      }
      const isVoid = at === 0 && weight !== null && use.every((one) => (one.weight ?? 0) === 0);
      return isVoid
        ? [finding([...path, 'weight'], 'is 0 in all of the chain', 'give one a weight, or remove them')]
        : [];
    }),
  );
}

function checkUpstream(path: (string | number)[], upstream: FileUpstream): Finding[] {
  const { url, kind, ca, api_key_file, api_version } = upstream;
  const findings = [
    ...checkFiles(path, { api_key_file }, ['api_key_file'], 'a file that holds the key alone'),
    ...(ca === null ? [] : checkCertificates(path, { ca }, { ca: 'ca', cert: 'cert', key: 'key' })),
  ];
  const { protocol } = new URL(url);
  if (api_version !== null && providerKind(kind ?? undefined, new URL(url)).name !== 'azure')
    findings.push(
      finding([...path, 'api_version'], 'is for upstreams of kind azure', 'remove it, or write kind: azure'),
    );
  if (upstream.is_service && upstream.api_key_env === null && api_key_file === null)
    findings.push(
      finding(
        [...path, 'is_service'],
        'needs a key: the service believes only what callers that it knows say of tasks',
        'give api_key_env or api_key_file the key that the service has for this caller',
      ),
    );
  if (ca !== null && protocol === 'http:')
    findings.push(finding([...path, 'ca'], 'has no use without TLS', 'write an https url, or remove it'));
  return findings;
}

function hostOf(url: string): string {
  const { hostname, port, protocol } = new URL(url);
  return `${hostname}:${port || (protocol === 'https:' ? 443 : 80)}`;
}
