// `npm run load -- --target HOST:PORT --rate N`: loads a deployment and reports latency and errors. `--help` lists the options.
import { accessSync, constants, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { Caller, fromWhereCalled } from './caller.ts';
import { Generator } from './generator.ts';
import { type LoadOptions, readOptions, USAGE, UsageError } from './options.ts';
import { pageOf } from './page.ts';
import { showProgress } from './progress.ts';
import { Recorder } from './recorder.ts';
import { type LoadReport, makeReport } from './report.ts';
import { textOf } from './text.ts';

const EXIT = { passed: 0, failed: 1, 'generator late': 3, usage: 64, noConnection: 69 } as const;
const CONNECT_LIMIT_MS = 5000;
/** npm hands a signal on that its whole process group gets anyway: two within this time are one. */
const SAME_SIGNAL_MS = 500;
const DEFAULT_OUT = join(import.meta.dirname, '..', 'results', 'load');

try {
  const options = readOptions(process.argv.slice(2));
  if (options === undefined) process.stdout.write(USAGE);
  else process.exitCode = await load(options);
} catch (error) {
  if (!(error instanceof UsageError)) throw error;
  process.stderr.write(`load: ${error.message}\n`);
  process.exitCode = EXIT.usage;
}

async function load(options: LoadOptions): Promise<number> {
  const out = options.out === undefined ? DEFAULT_OUT : fromWhereCalled(options.out);
  prepare(out);
  const caller = new Caller(options);
  try {
    const problem = await connect(caller, options);
    if (problem !== undefined) {
      process.stderr.write(`load: ${problem}\n`);
      return EXIT.noConnection;
    }
    const report = await run(caller, options);
    process.stdout.write(textOf(report));
    write(report, out);
    return EXIT[report.verdict];
  } finally {
    caller.close();
  }
}

async function connect(caller: Caller, { target, tls }: LoadOptions): Promise<string | undefined> {
  const problem = await caller.connect(CONNECT_LIMIT_MS);
  if (problem === undefined) return undefined;
  const advice =
    tls === undefined
      ? 'if it uses TLS, add --tls, and --ca, --cert and --key as it requires'
      : 'that it uses TLS, and that --ca, --server-name, --cert and --key match it';
  return (
    `no connection to ${target} within ${CONNECT_LIMIT_MS / 1000} s (${problem}): check that it runs, that the port ` +
    `is its gRPC port (15006 for a sidecar's inbound listener, 15001 for its outbound one), and ${advice}`
  );
}

async function run(caller: Caller, options: LoadOptions): Promise<LoadReport> {
  const schedule = {
    ratePerSecond: options.ratePerSecond,
    warmupMs: options.warmupMs,
    durationMs: options.durationMs,
  };
  const recorder = new Recorder(schedule);
  const generator = new Generator({
    schedule,
    maxInFlight: options.maxInFlight,
    recorder,
    call: (onEnd, onChunk) => caller.call(onEnd, onChunk),
  });
  let endedEarly = false;
  let signalledMs = Number.NEGATIVE_INFINITY;
  const onSignal = (): void => {
    if (performance.now() - signalledMs < SAME_SIGNAL_MS) return;
    signalledMs = performance.now();
    endedEarly = true;
    generator.end();
  };
  // Never taken off: a signal's repeat may come late, and without a handler it would end the process before
  // the report of the run that it ended is written.
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  const startedAt = new Date();
  const startedMs = performance.now();
  const cpuBefore = process.cpuUsage();
  const { stackTraceLimit } = Error;
  // The error of each failed call would collect its stack, which costs more than the call.
  Error.stackTraceLimit = 0;
  const stopProgress = showProgress(generator, recorder, schedule, process.stderr);
  try {
    await generator.run();
  } finally {
    stopProgress();
    Error.stackTraceLimit = stackTraceLimit;
  }
  const cpu = process.cpuUsage(cpuBefore);
  return makeReport({
    options,
    recorder,
    generator,
    startedAt,
    endedEarly,
    cpuMicroseconds: cpu.user + cpu.system,
    wallMs: performance.now() - startedMs,
  });
}

/** Before the run, which would else be for nothing. */
function prepare(path: string): void {
  try {
    mkdirSync(dirname(path), { recursive: true });
    accessSync(dirname(path), constants.W_OK);
  } catch (error) {
    throw new UsageError(`--out ${path} can't be written (${(error as Error).message}): choose another path`);
  }
}

function write(report: LoadReport, path: string): void {
  writeFileSync(`${path}.json`, `${JSON.stringify(report, null, 2)}\n`);
  writeFileSync(`${path}.html`, pageOf(report));
  const shown = relative(process.cwd(), path);
  process.stdout.write(`written to ${shown}.json and ${shown}.html\n`);
}
