/** `outrigger inject`: adds the sidecar to the workloads in Kubernetes YAML. */

import { readFile, writeFile } from 'node:fs/promises';
import { TypedError } from '../errors/typed-error.ts';
import { ManifestError } from '../kubernetes/inject/manifest-document.ts';
import { injectManifests } from '../kubernetes/inject/manifests.ts';
import { type Report, reportOf, reportText, title } from '../kubernetes/inject/report.ts';
import { outriggerVersion } from '../telemetry/version.ts';
import { EXIT, print, printError, refuse } from './command.ts';
import { type FlagTable, readFlags } from './flags.ts';
import { type HelpPage, helps } from './help.ts';
import { INJECT_FLAGS, readInjectSettings } from './inject-settings.ts';

const FLAGS = {
  file: { short: '-f', value: 'FILE', help: 'The YAML or JSON to read; - or nothing is standard input' },
  output: {
    short: '-o',
    value: 'yaml|json',
    help: 'yaml (the manifests), or json: one object with report and manifests, the latter as YAML text [yaml]',
  },
  report: { value: 'FILE', help: 'A file for the report as JSON, beside the text on standard error' },
  ...INJECT_FLAGS,
} satisfies FlagTable;

const HELP: HelpPage = {
  usage: ['inject [-f FILE] [-o yaml|json] [--report FILE]'],
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
  if (!('flags' in read) || 'problems' in given)
    return refuse('inject', 'problems' in given ? given.problems : []);
  const [file = '-'] = read.flags.file;
  const [output = 'yaml'] = read.flags.output;
  if (output !== 'yaml' && output !== 'json') return refuse('inject', ['--output takes yaml or json']);
  try {
    const text = file === '-' ? await readStandardInput() : await readText(file);
    const result = injectManifests(text, { settings: given.settings, version: outriggerVersion() });
    const report = reportOf(result.reports);
    const problems = report.workloads.flatMap((workload) =>
      workload.problems.map((problem) => `${title(workload)}: ${problem}`),
    );
    const isRefused = problems.length > 0;
    const [reportFile] = read.flags.report;
    if (reportFile !== undefined) await writeReport(reportFile, report);
    if (output === 'json')
      print(JSON.stringify({ report, manifests: isRefused ? null : result.text }, null, 2));
    if (isRefused) return refuse('inject', problems);
    printError(reportText(report));
    if (output === 'yaml') process.stdout.write(result.text);
    return EXIT.OK;
  } catch (error) {
    if (error instanceof ManifestError)
      return refuse('inject', [`${file === '-' ? 'standard input' : file}: ${error.message}`]);
    if (error instanceof InputError) return refuse('inject', [error.message]);
    throw error;
  }
}

async function writeReport(file: string, report: Report): Promise<void> {
  try {
    await writeFile(file, `${JSON.stringify(report, null, 2)}\n`);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new InputError(`${file} can't be written (${code}); check the path of --report`);
  }
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
    return decoded(bytes, file);
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
  return decoded(Buffer.concat(chunks), 'standard input');
}

/** Anything but UTF-8 would come out changed, and without its workloads. A byte order mark of UTF-8 stays. */
function decoded(bytes: Buffer, what: string): string {
  const isUtf16 = (bytes[0] === 0xff && bytes[1] === 0xfe) || (bytes[0] === 0xfe && bytes[1] === 0xff);
  try {
    if (!isUtf16) return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new InputError(`${what} is not UTF-8; save it as UTF-8`);
  }
  throw new InputError(
    `${what} is UTF-16 and not UTF-8; save it as UTF-8, in PowerShell by Out-File -Encoding utf8`,
  );
}

function tooLarge(what: string): string {
  return `${what} has more than ${MAX_BYTES >> 20} MiB; split it`;
}
