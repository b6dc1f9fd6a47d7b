/** The Kubernetes API server that a command asks: that of the kubeconfig, or of the cluster around this process. */
import type { RequestOptions } from 'node:https';
import { TypedError } from '../errors/typed-error.ts';
import type { Target } from './ask.ts';

/** No API server is known; the message says why and what to do. */
export class ApiServerError extends TypedError {
  override readonly name = 'ApiServerError';
  override readonly source = 'ours';
  override readonly isSafeToRetry = true;
}

export interface ApiServer {
  readonly target: Target;
  /** The path of the server's URL, before that of the API. */
  readonly path: string;
  /** The own namespace. */
  readonly namespace: string;
  readonly inCluster: boolean;
}

/** The API server of the kubeconfig (KUBECONFIG, ~/.kube/config), or of the cluster that this process runs in. */
export async function apiServer(): Promise<ApiServer> {
  const { KubeConfig } = await import('@kubernetes/client-node');
  const config = new KubeConfig();
  try {
    config.loadFromDefault();
    const server = config.getCurrentCluster()?.server;
    if (server === undefined) throw new Error('it names no cluster');
    const { protocol, hostname, port, pathname } = new URL(server);
    const options: RequestOptions = {};
    await config.applyToHTTPSOptions(options);
    const secure = protocol === 'https:';
    return {
      target: {
        ...options,
        host: hostname.replace(/^\[|\]$/g, ''),
        port: port === '' ? (secure ? 443 : 80) : Number(port),
        secure,
      },
      path: pathname.replace(/\/$/, ''),
      namespace: config.getContextObject(config.getCurrentContext())?.namespace ?? 'default',
      inCluster: config.getCurrentContext() === 'inClusterContext',
    };
  } catch (error) {
    throw new ApiServerError(
      `no Kubernetes cluster can be asked (${(error as Error).message}); set KUBECONFIG`,
      error,
    );
  }
}
