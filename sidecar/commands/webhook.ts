/** `outrigger webhook`: serves the mutating admission webhook until a signal ends it. */
import {
  type CertificateOptions,
  ListenError,
  runWebhook,
  type WebhookOptions,
} from '../kubernetes/webhook/webhook.ts';
import { parseDurationMs } from '../settings/duration.ts';
import { createLogger } from '../telemetry/log.ts';
import { outriggerVersion } from '../telemetry/version.ts';
import { EXIT, printError } from './command.ts';
import { type Flags, type FlagTable, readFlags } from './flags.ts';
import { type HelpPage, helps } from './help.ts';
import { INJECT_FLAGS, readInjectSettings } from './inject-settings.ts';
import { listenAddress, serveUntilStopped } from './serve.ts';

const FLAGS = {
  listen: {
    value: 'ADDRESS',
    env: 'OUTRIGGER_WEBHOOK_LISTEN',
    help: 'Address for requests of the API server, over HTTPS [0.0.0.0:8443]',
  },
  health: { value: 'ADDRESS', help: 'Kubernetes probes: /healthz/live and /healthz/ready [0.0.0.0:15021]' },
  metrics: { value: 'ADDRESS', help: 'Prometheus: /metrics [0.0.0.0:15020]' },
  'tls-cert': {
    value: 'FILE',
    help: 'PEM file of a certificate, with --tls-key; read again when it changes',
  },
  'tls-key': { value: 'FILE', help: 'PEM file of its key' },
  name: {
    value: 'NAME',
    env: 'OUTRIGGER_WEBHOOK_NAMES',
    many: true,
    help: 'A DNS name or address of the own certificate [outrigger-webhook.outrigger-system.svc]',
  },
  secret: {
    value: 'NAMESPACE/NAME',
    env: 'OUTRIGGER_WEBHOOK_SECRET',
    help: 'NAMESPACE/NAME of an existing Secret in which replicas share the own certificate',
  },
  configuration: {
    value: 'NAME',
    env: 'OUTRIGGER_WEBHOOK_CONFIGURATION',
    help: 'The MutatingWebhookConfiguration whose caBundle is kept up to date',
  },
  'certificate-lifetime': {
    value: 'DURATION',
    help: 'Lifetime of the own certificate; the webhook renews it when a third is left [2160h]',
  },
  'drain-delay': { value: 'DURATION', help: 'Time from SIGTERM until the webhook stops accepting [5s]' },
  'log-level': {
    value: 'LEVEL',
    env: 'OUTRIGGER_LOG_LEVEL',
    help: 'trace, debug, info, warn, error, fatal, silent [info]',
  },
  ...INJECT_FLAGS,
} satisfies FlagTable;

const HELP: HelpPage = {
  usage: ['webhook [--tls-cert FILE --tls-key FILE | --secret NAMESPACE/NAME --configuration NAME]'],
  about: 'Serves the mutating admission webhook, which adds the sidecar to pods that ask for it.',
  flags: FLAGS,
  exits: { 69: 'it can not listen at an address' },
  more: 'docs/kubernetes.md describes its installation.',
};

const LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'];
const MINUTE_MS = 60_000;
/** Ten years, in hours; no certificate should live longer. */
const MAX_LIFETIME_MS = 87_600 * 60 * MINUTE_MS;

export async function webhook(args: readonly string[]): Promise<number> {
  if (helps(args, HELP)) return EXIT.OK;
  const read = readFlags(args, FLAGS, process.env);
  const options = 'flags' in read ? readOptions(read.flags) : read;
  if ('problems' in options) {
    printError(options.problems.map((problem) => `outrigger webhook: ${problem}`).join('\n'));
    return EXIT.USAGE;
  }
  const log = createLogger({ level: options.level, base: { name: 'outrigger-webhook' } });
  return serveUntilStopped(log, ListenError, () => runWebhook(options.options, log));
}

function readOptions(
  flags: Flags<keyof typeof FLAGS>,
): { options: WebhookOptions; level: string } | { problems: string[] } {
  const problems: string[] = [];
  const injected = readInjectSettings(flags);
  if ('problems' in injected) problems.push(...injected.problems);
  const listen = (name: 'listen' | 'health' | 'metrics', byDefault: string): string =>
    listenAddress(flags, name, byDefault, problems);
  const duration = (
    name: 'certificate-lifetime' | 'drain-delay',
    byDefault: string,
    leastMs: number,
  ): number => {
    const ms = parseDurationMs(flags[name][0] ?? byDefault);
    if (ms !== undefined && ms >= leastMs && ms <= MAX_LIFETIME_MS) return ms;
    problems.push(`--${name} takes a length of time of ${leastMs / 1000}s or more, such as ${byDefault}`);
    return leastMs;
  };
  const [level = 'info'] = flags['log-level'];
  if (!LEVELS.includes(level)) problems.push(`--log-level takes ${LEVELS.join(', ')}`);
  const options = {
    listen: listen('listen', '0.0.0.0:8443'),
    health: listen('health', '0.0.0.0:15021'),
    metrics: listen('metrics', '0.0.0.0:15020'),
    drainDelayMs: duration('drain-delay', '5s', 0),
    certificate: readCertificate(flags, duration('certificate-lifetime', '2160h', MINUTE_MS), problems),
  };
  if (problems.length > 0 || !('settings' in injected)) return { problems };
  const inject = { settings: injected.settings, version: outriggerVersion() };
  return { options: { ...options, inject }, level };
}

function readCertificate(
  flags: Flags<keyof typeof FLAGS>,
  lifetimeMs: number,
  problems: string[],
): CertificateOptions {
  const [cert] = flags['tls-cert'];
  const [key] = flags['tls-key'];
  const [secret] = flags.secret;
  const [configuration] = flags.configuration;
  if (cert !== undefined && key !== undefined) {
    if (secret !== undefined || configuration !== undefined)
      problems.push(
        '--secret and --configuration are for the own certificate; --tls-cert brings another one',
      );
    return { kind: 'files', cert, key };
  }
  if (cert !== undefined || key !== undefined) problems.push('--tls-cert and --tls-key come together');
  const [namespace = '', name = '', ...more] = secret?.split('/') ?? [];
  if (secret !== undefined && (namespace === '' || name === '' || more.length > 0))
    problems.push('--secret takes NAMESPACE/NAME');
  const names = flags.name.length > 0 ? flags.name : ['outrigger-webhook.outrigger-system.svc'];
  return {
    kind: 'own',
    names,
    lifetimeMs,
    secret: secret === undefined ? undefined : { namespace, name },
    configuration,
  };
}
