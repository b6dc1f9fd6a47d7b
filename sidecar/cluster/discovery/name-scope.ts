/** Finds the namespace and the cluster domain that complete short names of Services. */
import { readRegularFile } from '../../files/regular-file.ts';
import { DEFAULT_CLUSTER_DOMAIN, hostName, type NameScope } from '../../net/authority.ts';

/** The kubelet mounts it in pods whose service account has a token. */
const SERVICE_ACCOUNT_FILE = '/var/run/secrets/kubernetes.io/serviceaccount/namespace';
const RESOLVER_FILE = '/etc/resolv.conf';
const MAX_FILE_BYTES = 1_048_576;

export interface NameScopeSettings {
  /** '' means the pod's own namespace. */
  readonly namespace: string;
  /** '' means the domain in the pod's search list. */
  readonly clusterDomain: string;
}

/** Where a process finds the namespace of its pod. */
export interface PodSources {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The text of a file, or undefined when there is none. */
  readonly read: (path: string) => string | undefined;
}

/**
 * Finds the namespace and cluster domain that complete short names. It takes the first present of: the settings;
 * POD_NAMESPACE, which injection sets; the service account's files; the search list of resolv.conf, which the kubelet
 * starts with `NAMESPACE.svc.DOMAIN`.
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

/** The last `search` line applies (resolv.conf(5)). */
function searchListOf(text: string): NameScope | undefined {
  const line = text.split('\n').findLast((each) => /^search\s/.test(each)) ?? '';
  const domains = line.split(/\s+/).slice(1).map(hostName);
  for (const domain of domains) {
    const [namespace = '', service, ...rest] = domain.split('.');
    // In Kubernetes the list continues with svc.DOMAIN; without it the domain is not the cluster's.
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
      // Outside a pod the files do not exist, and inside one some may be missing.
      return undefined;
    }
  },
};
