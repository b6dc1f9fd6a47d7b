/** `outrigger inject`: adds the sidecar to the workloads in Kubernetes YAML. */

import { readFile } from 'node:fs/promises';
import { TypedError } from '../errors/typed-error.ts';
import { injectManifests, ManifestError } from '../kubernetes/inject/manifests.ts';
import type { WorkloadReport } from '../kubernetes/inject/workloads.ts';
import { outriggerVersion } from '../telemetry/version.ts';
import { EXIT, printError } from './command.ts';
import { type FlagTable, readFlags } from './flags.ts';
import { type HelpPage, helps } from './help.ts';
import { INJECT_FLAGS, readInjectSettings } from './inject-settings.ts';

const FLAGS = {
  file: { short: '-f', value: 'FILE', help: 'The YAML or JSON to read; - or nothing is standard input' },
  ...INJECT_FLAGS,
} satisfies FlagTable;

const HELP: HelpPage = {
  usage: ['inject [-f FILE]'],
  about:
    'Reads Kubernetes YAML and writes it with the sidecar in every workload that is not opted out (label outrigger.dev/inject: "false"); a report goes to standard error. Annotations of the pods are its settings.',
  flags: FLAGS,
  more: 'docs/kubernetes.md lists the labels and annotations.',
};

/** The manifests of a whole cluster have a few megabytes. */
const MAX_BYTES = 64 << 20;

/**
 * Writes the YAML with the sidecar to standard output, and a report to standard error. If one workload can't have the
 * sidecar, the command writes no YAML: half a deployment is worse than none.
 */
export async function inject(args: readonly string[]): Promise<number> {
  if (helps(args, HELP)) return EXIT.OK;
  const read = readFlags(args, FLAGS, process.env);
  const given = 'flags' in read ? readInjectSettings(read.flags) : read;
  if (!('flags' in read) || 'problems' in given) return refuse('problems' in given ? given.problems : []);
  const [file = '-'] = read.flags.file;
  try {
    const text = file === '-' ? await readStandardInput() : await readText(file);
    const result = injectManifests(text, { settings: given.settings, version: outriggerVersion() });
    const problems = result.reports.flatMap(problemsOf);
    if (problems.length > 0) return refuse(problems);
    for (const { what, injection } of result.reports)
      printError(
        injection.outcome === 'untouched'
          ? `${what}: unchanged, because ${injection.because}`
          : `${what}: injected`,
      );
    if (result.reports.length === 0) printError('found no workload; the output is the unchanged input');
    process.stdout.write(result.text);
    return EXIT.OK;
  } catch (error) {
    if (error instanceof ManifestError)
      return refuse([`${file === '-' ? 'standard input' : file}: ${error.message}`]);
    if (error instanceof InputError) return refuse([error.message]);
    throw error;
  }
}

function problemsOf({ what, injection }: WorkloadReport): string[] {
  return injection.outcome === 'refused' ? injection.problems.map((problem) => `${what}: ${problem}`) : [];
}

function refuse(problems: readonly string[]): number {
  printError(problems.map((problem) => `outrigger inject: ${problem}`).join('\n'));
  return EXIT.USAGE;
}

/** The input is unreadable; the message says why. */
class InputError extends TypedError {
  override readonly name = 'InputError';
  override readonly source = 'downstream';
  override readonly isSafeToRetry = true;
}

async function readText(file: string): Promise<string> {
  try {
    const bytes = await readFile(file);
    if (bytes.length > MAX_BYTES) throw new InputError(tooLarge(file));
    return bytes.toString('utf8');
  } catch (error) {
    if (error instanceof InputError) throw error;
    const { code } = error as NodeJS.ErrnoException;
    throw new InputError(`${file} can't be read (${code}); check the path`);
  }
}

async function readStandardInput(): Promise<string> {
  if (process.stdin.isTTY) printError('outrigger inject: reading YAML from the terminal; end with Ctrl-D');
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > MAX_BYTES) throw new InputError(tooLarge('standard input'));
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function tooLarge(what: string): string {
  return `${what} has more than ${MAX_BYTES >> 20} MiB; split it`;
}
