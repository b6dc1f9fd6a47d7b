/** Runs the scaler: the bus, the fleets of pods, the gRPC server, metrics, health and shutdown. */
import { setTimeout as sleep } from 'node:timers/promises';
import { openLog } from '../../bus/open-log.ts';
import type { BusSettings } from '../../bus/settings.ts';
import { StandingLog } from '../../bus/standing-log.ts';
import { startHealth } from '../../listeners/health.ts';
import { type HttpServer, send, startHttpServer } from '../../listeners/http-server.ts';
import { AcceptError, ListenError } from '../../listeners/listen.ts';
import type { Logger } from '../../telemetry/log.ts';
import type { CredentialsListener } from '../../tls/credentials.ts';
import { loadKubeConfig } from '../api/api-call.ts';
import type { ActivitySource } from './activity.ts';
import { Answers } from './answers.ts';
import { Fleets } from './fleets.ts';
import { ScalerMetrics } from './metrics.ts';
import { type Pods, podsOf } from './pods.ts';
import { QueueCounts } from './queue-counts.ts';
import { scrape } from './scrape.ts';
import { ScalerServer, type ScalerTls } from './server.ts';
import { ScalerService } from './service.ts';
import type { Trigger } from './trigger.ts';

export interface ScalerOptions {
  readonly listen: string;
  readonly health: string;
  readonly metrics: string;
  readonly tls: ScalerTls | undefined;
  readonly bus: BusSettings;
  /** Whose ScaledObjects are served; empty for the own one. */
  readonly namespaces: readonly string[];
  /** The port of the sidecars' `/metrics`. */
  readonly metricsPort: number;
  readonly intervalMs: number;
  readonly writesCosts: boolean;
}

const CLOSE_LIMIT_MS = 2_000;

export { ListenError };

/** Serves KEDA until a signal ends it. Throws ListenError. */
export async function runScaler(options: ScalerOptions, log: Logger): Promise<void> {
  const ended = new AbortController();
  const stop = (signal: NodeJS.Signals): void => {
    log.info({ signal }, 'shutting down; a second signal exits at once');
    if (ended.signal.aborted) process.exit(1);
    ended.abort();
  };
  process.on('SIGTERM', stop).on('SIGINT', stop);
  const onError = (error: unknown): void => {
    if (error instanceof AcceptError) log.warn(error.message);
    else log.error({ err: error }, 'a request failed; this is a defect');
  };

  const { bus } = options;
  const { url } = bus;
  const tasks = url === undefined ? undefined : new StandingLog();
  const metrics = new ScalerMetrics(tasks && (() => tasks.connected));
  const cluster = loadKubeConfig();
  const own = cluster.getContextObject(cluster.getCurrentContext())?.namespace ?? 'default';
  const namespaces = options.namespaces.length > 0 ? options.namespaces : [own];
  const now = (): number => performance.now();
  const saysOnce = sayOnce(log);
  let pods: Pods | undefined;
  const fleets = new Fleets(
    {
      pods: {
        list: (selection) => (pods ??= podsOf(cluster)).list(selection),
        writeCost: (namespace, pod, cost) => (pods ??= podsOf(cluster)).writeCost(namespace, pod, cost),
      },
      scrape: ({ ip }) => scrape(ip, options.metricsPort),
      writesCosts: options.writesCosts,
      now,
      onRound: (outcome) => {
        metrics.measured(outcome);
        for (const problem of outcome.problems) saysOnce(problem);
      },
    },
    options.intervalMs,
  );
  const counts = tasks && new QueueCounts(tasks, now);
  const answers = new Answers({
    tasksOf: counts && ((agentType, maxAgeMs) => counts.of(agentType, maxAgeMs)),
    fleetOf: (selection) => fleets.of(selection),
  });
  const activityOf = (trigger: Trigger): ActivitySource => ({
    isActive: (isNews) => answers.isActive(trigger, isNews ? 0 : undefined),
    listen: (onWork) =>
      trigger.metric === 'queue' ? (tasks?.listen(trigger.agentType, onWork) ?? (() => {})) : () => {},
  });
  const service = new ScalerService({
    answers,
    namespaces,
    activityOf,
    onAnswer: (method, code, details) => {
      metrics.answered(method, code);
      if (code !== 'OK') saysOnce(`${method}: ${details}`);
    },
    onHeld: ({ name, namespace }) => {
      metrics.hold();
      log.debug({ name, namespace }, 'the replicas are held: the work waits for the provider of models');
    },
    onDefect: onError,
  });
  const server = new ScalerServer({
    listen: options.listen,
    tls: options.tls,
    calls: service,
    certificates: certificatesTo(log),
    onConnectionError: ({ message, reason }) => saysOnce(`a connection failed (${reason}): ${message}`),
  });
  const pages: HttpServer[] = [];
  try {
    if (tasks !== undefined && url !== undefined) {
      tasks.onConnected = (connected) => {
        if (connected) service.lookAll();
        log[connected ? 'info' : 'warn'](
          connected ? 'the bus can be asked' : `the bus can't be asked: ${tasks.problem}`,
        );
      };
      tasks.use(() => openLog(bus, url, ''));
    }
    pages.push(await startMetrics(options.metrics, metrics, onError));
    await server.listen();
    const probes = {
      notLiveBecause: () => (server.isListening ? undefined : '--listen accepts no more connections'),
      notReadyBecause: () => (ended.signal.aborted ? 'shutting down' : undefined),
      busNote: () => (tasks === undefined || tasks.connected ? undefined : tasks.problem),
    };
    pages.push(await startHealth(options.health, probes, onError, '--health'));
    log.info({ address: server.address, namespaces }, 'serving KEDA');
    await sleep(2 ** 31 - 1, undefined, { signal: ended.signal }).catch(() => {});
  } finally {
    server.drain();
    service.close();
    fleets.close();
    await waitFor(() => server.connectionCount === 0, CLOSE_LIMIT_MS);
    server.close();
    await tasks?.close();
    await Promise.all(pages.map((page) => page.close()));
    process.off('SIGTERM', stop).off('SIGINT', stop);
  }
}

async function waitFor(isSo: () => boolean, limitMs: number): Promise<void> {
  for (let waitedMs = 0; !isSo() && waitedMs < limitMs; waitedMs += 50) await sleep(50);
}

function startMetrics(
  listen: string,
  metrics: ScalerMetrics,
  onError: (error: unknown) => void,
): Promise<HttpServer> {
  return startHttpServer({
    setting: '--metrics',
    listen,
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
}

function certificatesTo(log: Logger): CredentialsListener {
  return {
    onCertificate: (_where, { expiresAtMs }, change) =>
      log.info({ expires: new Date(expiresAtMs).toISOString() }, `the certificate is ${change}`),
    onCertificateInvalid: (_where, error) =>
      log.error(`the new ${error.file} file ${error.message}; ${error.remedy}. The old one stays in use`),
  };
}

const REPEAT_MS = 60_000;
const MAX_TEXTS = 64;

/** Warns of each problem once a minute, however often somebody asks. */
function sayOnce(log: Logger): (problem: string) => void {
  const saidAtMs = new Map<string, number>();
  return (problem) => {
    const nowMs = performance.now();
    if (nowMs - (saidAtMs.get(problem) ?? Number.NEGATIVE_INFINITY) < REPEAT_MS) return;
    for (const [text, atMs] of saidAtMs) if (nowMs - atMs >= REPEAT_MS) saidAtMs.delete(text);
    // A caller that varies its request does not fill the log.
    if (saidAtMs.size >= MAX_TEXTS) return;
    saidAtMs.set(problem, nowMs);
    log.warn(problem);
  };
}
