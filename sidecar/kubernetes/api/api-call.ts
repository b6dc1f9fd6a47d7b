/** Calls of the Kubernetes API: their cluster, their time limit, and errors that say what is missing. */
import { ApiException, KubeConfig } from '@kubernetes/client-node';
import { TypedError } from '../../errors/typed-error.ts';

/** The API was unreachable or refused; the message says what is missing. */
export class KubernetesError extends TypedError {
  override readonly name = 'KubernetesError';
  override readonly source = 'upstream';
  override readonly isSafeToRetry = true;
}

/** What to do about a status, beside those that mean the same for all. */
export type Remedies = Readonly<Record<number, string>>;

const REQUEST_TIMEOUT_MS = 10_000;
export const CONFLICT = 409;

/** The cluster of this pod, or the one that KUBECONFIG names. */
export function loadKubeConfig(): KubeConfig {
  const config = new KubeConfig();
  config.loadFromDefault();
  return config;
}

/** Awaits a request to the API. Throws KubernetesError: what we tried, how it failed, what to do. */
export async function awaitResponse<T>(
  action: string,
  response: Promise<T>,
  remedies: Remedies,
  timeoutMs = REQUEST_TIMEOUT_MS,
): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    const message = `can't ${action}: no answer within ${timeoutMs / 1000} s; check that the API server can be reached`;
    timer = setTimeout(() => reject(new KubernetesError(message)), timeoutMs);
  });
  try {
    return await Promise.race([response, late]);
  } catch (error) {
    if (error instanceof KubernetesError) throw error;
    const code = codeOf(error);
    const reason =
      code === undefined
        ? `${(error as Error).message}; check that the API server can be reached`
        : (remedies[code] ?? COMMON[code] ?? `the API server answered ${code}`);
    throw new KubernetesError(`can't ${action}: ${reason}`, { cause: error });
  } finally {
    clearTimeout(timer);
  }
}

const COMMON: Remedies = {
  401: 'the API server does not know this service account (401); check that its token is mounted',
  [CONFLICT]: 'another client changed it meanwhile (409)',
};

export function codeOf(error: unknown): number | undefined {
  return error instanceof ApiException ? error.code : undefined;
}
