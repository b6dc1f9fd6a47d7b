/**
 * `outrigger check`: prints the configuration that `run` would use, or every problem with it. Settings that work, but
 * perhaps not as intended, go to standard error.
 */
import { formatProblem } from '../config/problems.ts';
import type { ConfigSource } from '../config/source.ts';
import { STREAM_IDLE_TIMEOUT } from '../policy/time-limit-settings.ts';
import { EXIT, print, printError, refuse } from './command.ts';
import { configure } from './configure.ts';
import { type FlagTable, readFlags, splitFlags } from './flags.ts';
import { CONFIG_FLAGS, type HelpPage, helps, SETTINGS_NOTE } from './help.ts';

const FLAGS = {
  live: {
    bare: true,
    help: 'Looks at what the configuration names: names, ports, TLS, gRPC, the provider and its key',
  },
  services: {
    value: 'NAMESPACE',
    many: true,
    help: 'Of --live: looks for Services there whose numeric targetPort leads past the sidecars',
  },
  output: { short: '-o', value: 'FORMAT', help: 'Of --live: text or json [text]' },
} satisfies FlagTable;

const HELP: HelpPage = {
  usage: ['check [--config FILE] [--live [--output json]] [--SETTING VALUE …]'],
  about: `Prints the configuration that \`outrigger run\` would use, with every default, or every problem with its line and remedy. Settings that work, but probably not as intended, are warnings on standard error. ${SETTINGS_NOTE}`,
  flags: { ...FLAGS, ...CONFIG_FLAGS },
  exits: { 1: '--live found a problem' },
  more: '--live connects, sends a health check to each endpoint, and asks each provider for its list of models, which costs no tokens; its report says what was sent.',
};

export async function check(args: readonly string[]): Promise<number> {
  if (helps(args, HELP)) return EXIT.OK;
  const { own, rest } = splitFlags(args, FLAGS);
  const read = readFlags(own, FLAGS, {});
  if ('problems' in read) return refuse('check', read.problems);
  const [output = 'text'] = read.flags.output;
  if (output !== 'text' && output !== 'json') return refuse('check', ['--output takes text or json']);
  const configured = await configure(rest);
  if ('exitCode' in configured) return configured.exitCode;
  if (read.flags.live.length > 0) return live(configured.source, read.flags.services, output === 'json');
  const { Document, isScalar, visit } = await import('yaml');
  const document = new Document(configured.source.effective);
  visit(document, {
    Pair: (_, { key, value }) => {
      // The one default that is no value of its setting: written out, it would apply to all methods.
      if (isScalar(key) && key.value === 'idle_timeout' && isScalar(value) && value.value === null)
        value.comment = ` ${STREAM_IDLE_TIMEOUT} for StreamProcess, none for other methods`;
    },
  });
  print(document.toString());
  printNotices(configured.source);
  for (const warning of configured.source.warnings) printError(`warning: ${formatProblem(warning)}`);
  return EXIT.OK;
}

async function live(source: ConfigSource, namespaces: readonly string[], json: boolean): Promise<number> {
  const { liveCheck } = await import('./live-check/live-check.ts');
  const { reportOf, textOf } = await import('./live-check/report.ts');
  const results = await liveCheck(source.current, process.env, namespaces);
  const report = reportOf(results, source.warnings, source.locate);
  if (json) print(JSON.stringify(report, null, 2));
  else {
    printNotices(source);
    print(textOf(report));
  }
  return report.ok ? EXIT.OK : EXIT.PROBLEM;
}

function printNotices({ notices }: ConfigSource): void {
  for (const { level, message } of notices)
    printError(`${level === 'warn' ? 'warning' : 'note'}: ${message}`);
}
