import { readRegularFile } from '../../files/regular-file.ts';
import { DEFAULT_CLUSTER_DOMAIN, hostName, type NameScope } from '../authority.ts';

/** Mounted in pods whose service account has a token. */
const SERVICE_ACCOUNT_FILE = '/var/run/secrets/kubernetes.io/serviceaccount/namespace';
const RESOLVER_FILE = '/etc/resolv.conf';
const MAX_FILE_BYTES = 1_048_576;

export interface NameScopeSettings {
  /** '' is the pod's own. */
  readonly namespace: string;
  /** '' is the one by which the pod looks names up. */
  readonly clusterDomain: string;
}

/** Where a process can find out which pod it is. */
export interface PodSources {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The text of a file, or undefined when there is none. */
  readonly read: (path: string) => string | undefined;
}

/**
 * The namespace and cluster domain that short names belong to, from what is there of, in this order: the settings;
 * POD_NAMESPACE, which injection sets; the service account's files; the search list of resolv.conf, which the kubelet
 * begins with `NAMESPACE.svc.DOMAIN`.
 */
export function nameScopeOf(settings: NameScopeSettings, sources: PodSources = POD): NameScope {
  const search = searchListOf(sources.read(RESOLVER_FILE) ?? '');
  const given = [
    settings.namespace,
    sources.env['POD_NAMESPACE'],
    sources.read(SERVICE_ACCOUNT_FILE),
    search?.namespace,
  ];
  const namespace = given.map((text) => text?.trim() ?? '').find((text) => text !== '') ?? '';
  const clusterDomain = settings.clusterDomain || search?.clusterDomain || DEFAULT_CLUSTER_DOMAIN;
  return { namespace: hostName(namespace), clusterDomain: hostName(clusterDomain) };
}

/** The last `search` line holds (resolv.conf(5)). */
function searchListOf(text: string): NameScope | undefined {
  const line = text.split('\n').findLast((each) => /^search\s/.test(each)) ?? '';
  const domains = line.split(/\s+/).slice(1).map(hostName);
  for (const domain of domains) {
    const [namespace = '', service, ...rest] = domain.split('.');
    // The list goes on with svc.DOMAIN: without it this is another's naming.
    if (service === 'svc' && domains.includes(`svc.${rest.join('.')}`))
      return { namespace, clusterDomain: rest.join('.') };
  }
  return undefined;
}

const POD: PodSources = {
  env: process.env,
  read: (path) => {
    try {
      return readRegularFile(path, MAX_FILE_BYTES).toString('utf8');
    } catch {
      // Most machines are no pod, and of a pod's files some are missing.
      return undefined;
    }
  },
};
