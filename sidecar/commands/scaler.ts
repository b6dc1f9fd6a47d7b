/** `outrigger scaler`: serves KEDA's external push scaler until a signal ends it. */
import { ListenError, runScaler, type ScalerOptions } from '../kubernetes/scaler/scaler.ts';
import { parseDurationMs } from '../settings/duration.ts';
import { createLogger } from '../telemetry/log.ts';
import { readMaterial, TlsFileError } from '../tls/material.ts';
import { EXIT, refuse } from './command.ts';
import { configure } from './configure.ts';
import { type Flags, type FlagTable, misspelled, readFlags, splitFlags } from './flags.ts';
import { CONFIG_FLAGS, type HelpPage, helps } from './help.ts';
import { listenAddress, serveUntilStopped } from './serve.ts';

const FLAGS = {
  listen: { value: 'ADDRESS', help: "Address for KEDA's calls, over gRPC [0.0.0.0:15010]" },
  health: { value: 'ADDRESS', help: 'Kubernetes probes: /healthz/live and /healthz/ready [0.0.0.0:15021]' },
  metrics: { value: 'ADDRESS', help: 'Prometheus: /metrics [0.0.0.0:15020]' },
  'tls-cert': { value: 'FILE', help: 'PEM file of a certificate, with --tls-key; without it, plain text' },
  'tls-key': { value: 'FILE', help: 'PEM file of its key' },
  'client-ca': {
    value: 'FILE',
    help: 'PEM file of the authorities of clients: KEDA then needs a certificate, too',
  },
  namespace: {
    value: 'NAME',
    many: true,
    help: 'A namespace whose ScaledObjects are served [the own one]',
  },
  'metrics-port': { value: 'PORT', help: "The port of the sidecars' /metrics [15020]" },
  interval: { value: 'DURATION', help: 'Time between two reads of the metrics of all pods [5s]' },
  'no-deletion-cost': { bare: true, help: 'Write no pod-deletion-cost: scale-downs may take busy pods' },
} satisfies FlagTable;

const HELP: HelpPage = {
  usage: ['scaler [--config FILE]'],
  about:
    "Serves KEDA's external push scaler: replicas follow the tasks that wait on the bus, and the 99th percentile of the calls.",
  flags: { ...FLAGS, ...CONFIG_FLAGS },
  exits: { 69: 'it can not listen at an address' },
  more: "The bus is that of a sidecar's configuration (bus.url). docs/tasks.md describes the scaler, and what a ScaledObject says.",
};

const INTERVAL_MS = { least: 1_000, most: 60_000 };

export async function scaler(args: readonly string[]): Promise<number> {
  if (helps(args, HELP)) return EXIT.OK;
  const { own, rest } = splitFlags(args, FLAGS);
  const read = readFlags(own, FLAGS, {});
  if ('problems' in read) return refuse('scaler', read.problems);
  const unknown = misspelled(rest, FLAGS);
  if (unknown.length > 0) return refuse('scaler', unknown);
  const configured = await configure(rest);
  if ('exitCode' in configured) return configured.exitCode;
  const { bus, log: logSettings } = configured.source.current;
  const options = readOptions(read.flags);
  if ('problems' in options) return refuse('scaler', options.problems);
  const log = createLogger({ level: logSettings.level, base: { name: 'outrigger-scaler' } });
  return serveUntilStopped(log, ListenError, () => runScaler({ ...options, bus }, log));
}

function readOptions(
  flags: Flags<keyof typeof FLAGS>,
): Omit<ScalerOptions, 'bus'> | { readonly problems: readonly string[] } {
  const problems: string[] = [];
  const address = (name: 'listen' | 'health' | 'metrics', byDefault: string): string =>
    listenAddress(flags, name, byDefault, problems);
  const metricsPort = Number(flags['metrics-port'][0] ?? '15020');
  if (!Number.isInteger(metricsPort) || metricsPort < 1 || metricsPort > 65_535)
    problems.push('--metrics-port takes a port, such as 15020');
  const intervalMs = parseDurationMs(flags.interval[0] ?? '5s') ?? 0;
  if (intervalMs < INTERVAL_MS.least || intervalMs > INTERVAL_MS.most)
    problems.push('--interval takes a length of time from 1s to 60s, such as 5s');
  const options = {
    listen: address('listen', '0.0.0.0:15010'),
    health: address('health', '0.0.0.0:15021'),
    metrics: address('metrics', '0.0.0.0:15020'),
    tls: readTls(flags, problems),
    namespaces: flags.namespace,
    metricsPort,
    intervalMs,
    writesCosts: flags['no-deletion-cost'].length === 0,
  };
  return problems.length > 0 ? { problems } : options;
}

/** Undefined for plain text. The files have to be right at the start; later ones are taken when they are. */
function readTls(flags: Flags<keyof typeof FLAGS>, problems: string[]): ScalerOptions['tls'] {
  const [cert] = flags['tls-cert'];
  const [key] = flags['tls-key'];
  const [ca] = flags['client-ca'];
  if (cert === undefined && key === undefined) {
    if (ca !== undefined) problems.push('--client-ca needs --tls-cert and --tls-key');
    return undefined;
  }
  if (cert === undefined || key === undefined) {
    problems.push('--tls-cert and --tls-key come together');
    return undefined;
  }
  const files = { cert, key, ca };
  try {
    readMaterial(files);
  } catch (error) {
    if (!(error instanceof TlsFileError)) throw error;
    const flag = error.file === 'ca' ? 'client-ca' : `tls-${error.file}`;
    problems.push(`--${flag}: ${files[error.file]} ${error.message}; ${error.remedy}`);
  }
  return { cert, key, clientCa: ca };
}
