/** Runs the webhook: certificate, server, metrics, health and shutdown. */
import { setTimeout as sleep } from 'node:timers/promises';
import { startHealth } from '../../listeners/health.ts';
import { type HttpServer, send, startHttpServer } from '../../listeners/http-server.ts';
import { AcceptError, ListenError } from '../../listeners/listen.ts';
import type { Logger } from '../../telemetry/log.ts';
import type { InjectContext } from '../inject/patch.ts';
import { type CertificateMaterial, makeCertificate } from './certificate.ts';
import { CertificateFiles } from './certificate-files.ts';
import { CertificateKeeper, memoryStore } from './certificate-keeper.ts';
import { WebhookMetrics } from './metrics.ts';
import { WebhookServer } from './server.ts';

export interface WebhookOptions {
  readonly listen: string;
  readonly health: string;
  readonly metrics: string;
  readonly inject: InjectContext;
  readonly certificate: CertificateOptions;
  /** From "not ready" until the server stops accepting connections; by then the Service has other endpoints. */
  readonly drainDelayMs: number;
}

export type CertificateOptions =
  | { readonly kind: 'files'; readonly cert: string; readonly key: string }
  | {
      readonly kind: 'own';
      readonly names: readonly string[];
      readonly lifetimeMs: number;
      /** The Secret that replicas share; undefined for a certificate of this process alone. */
      readonly secret: { readonly namespace: string; readonly name: string } | undefined;
      /** The MutatingWebhookConfiguration that should trust it; undefined if the operator maintains the bundle. */
      readonly configuration: string | undefined;
    };

/** A source of certificates that we poll. */
interface CertificateSource {
  readonly notReadyBecause: string | undefined;
  readonly expiresAtMs: number;
  tick(): Promise<void>;
}

/** How often we check the certificate and the bundle: normally, and after a failure. */
const TICK_MS = 15_000;
const RETRY_MS = 2_000;
const CLOSE_LIMIT_MS = 10_000;

/** Serves the webhook until a signal ends it. Throws ListenError. */
export async function runWebhook(options: WebhookOptions, log: Logger): Promise<void> {
  const ended = new AbortController();
  const stop = (signal: NodeJS.Signals): void => {
    log.info({ signal }, 'shutting down; a second signal exits at once');
    if (ended.signal.aborted) process.exit(1);
    ended.abort();
  };
  process.on('SIGTERM', stop).on('SIGINT', stop);

  let failed: unknown;
  const onError = (error: unknown): void => {
    if (error instanceof AcceptError) log.warn(error.message);
    else log.error({ err: error }, 'a request failed; this is a defect');
  };
  const server: WebhookServer = new WebhookServer({
    listen: options.listen,
    inject: options.inject,
    onError,
    onReviewed: ({ outcome, pod, because, left, doubts }, durationMs) => {
      metrics.reviewed(outcome, durationMs);
      const level = outcome === 'refused' ? 'warn' : 'info';
      const told = outcome === 'injected' ? { left, doubts } : {};
      const message = outcome === 'injected' ? 'injected' : because.join('; ');
      log[level]({ pod, outcome, because, ...told }, message);
    },
    onRefused: (status, reason) => {
      metrics.refuse(status);
      log.debug({ status, reason }, 'refused');
    },
  });
  const serve = (material: Pick<CertificateMaterial, 'cert' | 'key'>): void => {
    // This request to the API server was in flight at the end.
    if (ended.signal.aborted) return;
    server.use(material).then(
      () => log.info({ address: server.address }, 'serving with a new certificate'),
      (error: unknown) => {
        failed = error;
        ended.abort();
      },
    );
  };
  const source = await certificateSource(options.certificate, serve);
  const metrics = new WebhookMetrics(() => source.expiresAtMs);
  const notReadyBecause = (): string | undefined => {
    if (ended.signal.aborted) return 'shutting down';
    return source.notReadyBecause ?? (server.address === '' ? 'not listening yet' : undefined);
  };
  const notLiveBecause = (): string | undefined =>
    ended.signal.aborted || server.address === '' || server.isListening
      ? undefined
      : '--listen accepts no more connections';
  const pages: HttpServer[] = [];
  try {
    await startPages(options, { notLiveBecause, notReadyBecause, metrics, onError }, pages);
    await keep(source, log, ended.signal);
    if (failed !== undefined) throw failed;
    await sleep(options.drainDelayMs);
  } finally {
    await server.close(CLOSE_LIMIT_MS);
    await Promise.all(pages.map((page) => page.close()));
    process.off('SIGTERM', stop).off('SIGINT', stop);
  }
}

export { ListenError };

async function certificateSource(
  options: CertificateOptions,
  serve: (material: Pick<CertificateMaterial, 'cert' | 'key'>) => void,
): Promise<CertificateSource> {
  if (options.kind === 'files') return new CertificateFiles(options, Date.now, serve);
  const { names, lifetimeMs, secret, configuration } = options;
  // Loaded on demand, because the client is large.
  const api =
    secret === undefined && configuration === undefined ? undefined : await import('./kubernetes.ts');
  const cluster = api?.loadKubeConfig();
  return new CertificateKeeper({
    names,
    lifetimeMs,
    store: secret === undefined ? memoryStore() : api!.secretStore(cluster!, secret.namespace, secret.name),
    publisher: configuration === undefined ? undefined : api!.webhookConfiguration(cluster!, configuration),
    now: Date.now,
    make: makeCertificate,
    serve,
  });
}

interface Pages {
  readonly notLiveBecause: () => string | undefined;
  readonly notReadyBecause: () => string | undefined;
  readonly metrics: WebhookMetrics;
  readonly onError: (error: unknown) => void;
}

/** @param started receives each server as soon as it listens */
async function startPages(options: WebhookOptions, pages: Pages, started: HttpServer[]): Promise<void> {
  const { notLiveBecause, notReadyBecause, metrics, onError } = pages;
  const probes = { notLiveBecause, notReadyBecause };
  started.push(await startHealth(options.health, probes, onError, '--health'));
  const page = startHttpServer({
    setting: '--metrics',
    listen: options.metrics,
    routes: [
      {
        method: 'GET',
        path: '/metrics',
        handle: async (_request, response) =>
          send(response, 200, metrics.registry.contentType, await metrics.registry.metrics()),
      },
    ],
    onError,
  });
  started.push(await page);
}

/** Maintains the certificate until the end. Logs a failure once, until it changes or ends. */
async function keep(source: CertificateSource, log: Logger, ended: AbortSignal): Promise<void> {
  let loggedFailure = '';
  // A tick may wait for an unresponsive API server, but the end must not.
  const end = new Promise<void>((resolve) => ended.addEventListener('abort', () => resolve()));
  while (!ended.aborted) {
    let waitMs = TICK_MS;
    try {
      await Promise.race([source.tick(), end]);
      if (loggedFailure !== '') log.info('the certificate is valid again');
      loggedFailure = '';
    } catch (error) {
      const { message } = error as Error;
      if (message !== loggedFailure) log.error({ err: error }, message);
      loggedFailure = message;
      waitMs = RETRY_MS;
    }
    if (source.notReadyBecause !== undefined) waitMs = RETRY_MS;
    await sleep(waitMs, undefined, { signal: ended }).catch(() => {});
  }
}
