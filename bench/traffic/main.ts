// The bench's own load, a process of one core: `node bench/traffic/main.ts OPTIONS`, where OPTIONS are JSON (options.ts).
//
// Each call is a task with an id of its own, as calls are: to a sidecar, one body sent again and again is one task, which
// it runs once and then answers from memory. A frame is made once and its id written into it, so that this process makes
// more calls than any proxy on a core takes; the row `direct` of each report shows how many.
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { Caller, type CallerEvents } from './caller.ts';
import type { TrafficLine, TrafficOptions } from './options.ts';
import { taskMessage } from './task-message.ts';

const READ_BUFFER_BYTES = 256 * 1024;
const TICK_MS = 1;
/** In which all connections must have been accepted. */
const CONNECT_LIMIT_MS = 15_000;

const options = JSON.parse(process.argv[2]!) as TrafficOptions;
const { port, connections, streams, seconds, warmUpSeconds, callsPerSecond } = options;
const message = taskMessage(options.inputBytes, options.chunks, options.withoutIds);
const callers: Caller[] = [];

let counting = false;
let ended = false;
let calls = 0;
let failed = 0;
let firstFailure: string | undefined;
let dataBytes = 0;
let answering = 0;
const latenciesMs: number[] = [];
const lagsMs: number[] = [];

const events: CallerEvents = {
  onReady(caller) {
    if (caller.maxStreams < streams) {
      fail(`the target allows ${caller.maxStreams} streams, but the load needs ${streams}`);
      return;
    }
    callers.push(caller);
    if (callers.length === connections) start();
  },
  onEnd(caller, startedMs, failure) {
    if (failure !== undefined) {
      failed++;
      firstFailure ??= failure;
      if (options.hold === true) fail(failure);
    } else if (counting) {
      calls++;
      if (callsPerSecond !== undefined) latenciesMs.push(performance.now() - startedMs);
    }
    if (callsPerSecond === undefined && !ended && options.hold !== true) caller.call(0);
  },
  onFirstBytes() {
    answering++;
    if (options.hold === true && answering === connections * streams)
      print({ event: 'held', streams: answering });
  },
  onBytes(bytes) {
    if (counting) dataBytes += bytes;
  },
  onBroken: fail,
};

const connecting = setTimeout(
  () => fail(`${callers.length} of ${connections} connections opened`),
  CONNECT_LIMIT_MS,
);
for (let i = 0; i < connections; i++) open();

function open(): void {
  let caller: Caller | undefined;
  const onread = {
    buffer: Buffer.allocUnsafe(READ_BUFFER_BYTES),
    callback(length: number, buffer: Uint8Array): boolean {
      try {
        caller!.read((buffer as Buffer).subarray(0, length));
      } catch (error) {
        fail((error as Error).message);
      }
      return true;
    },
  };
  const common = { port, host: '127.0.0.1', onread };
  const { tls } = options;
  const socket: Socket =
    tls === undefined
      ? connect(common)
      : connectTls({
          ...common,
          ca: readFileSync(tls.ca),
          cert: readFileSync(tls.cert),
          key: readFileSync(tls.key),
          servername: tls.serverName,
          ALPNProtocols: ['h2'],
        });
  socket.setNoDelay(true);
  socket.on('error', (error) => fail(error.message));
  socket.on('close', () => fail('the target closed a connection'));
  caller = new Caller(socket, message, options.answerBytes, options, events);
}

function start(): void {
  clearTimeout(connecting);
  if (callsPerSecond !== undefined) openLoop(callsPerSecond);
  else
    for (const caller of callers) {
      for (let i = 0; i < streams; i++) caller.call(0);
      caller.flush();
    }
  if (options.hold !== true) setTimeout(count, warmUpSeconds * 1_000);
}

function count(): void {
  counting = true;
  const cpu = process.cpuUsage();
  const startedMs = performance.now();
  print({ event: 'begin' });
  setTimeout(() => {
    ended = true;
    const elapsedMs = performance.now() - startedMs;
    const { user, system } = process.cpuUsage(cpu);
    print({
      event: 'end',
      calls,
      callsPerSecond: (calls * 1_000) / elapsedMs,
      failed,
      ...(firstFailure === undefined ? {} : { firstFailure }),
      bytesPerSecond: (dataBytes * 1_000) / elapsedMs,
      ...(callsPerSecond === undefined ? {} : { latencyMs: latency(), lagP99Ms: percentile(lagsMs, 99) }),
      cpuShare: (user + system) / 1_000 / elapsedMs,
    });
  }, seconds * 1_000);
}

/** Sends the due calls at each tick, evenly over the connections, and never waits for an answer. */
function openLoop(rate: number): void {
  const startedMs = performance.now();
  let sent = 0;
  const tick = (): void => {
    if (ended) return;
    const nowMs = performance.now();
    for (const due = ((nowMs - startedMs) * rate) / 1_000; sent < due; sent++) {
      const caller = callers[sent % callers.length]!;
      if (caller.open >= caller.maxStreams) {
        failed++;
        firstFailure ??= `${caller.open} calls were open on a connection: the target does not keep up with ${rate}/s`;
        continue;
      }
      if (counting) lagsMs.push(nowMs - startedMs - (sent * 1_000) / rate);
      caller.call(performance.now());
      caller.flush();
    }
    setTimeout(tick, TICK_MS);
  };
  tick();
}

function latency(): { mean: number; p50: number; p90: number; p99: number; max: number } {
  const of = (percent: number): number => percentile(latenciesMs, percent);
  const mean = latenciesMs.reduce((sum, value) => sum + value, 0) / latenciesMs.length;
  return { mean, p50: of(50), p90: of(90), p99: of(99), max: of(100) };
}

function percentile(values: number[], percent: number): number {
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.min(sorted.length - 1, Math.floor((sorted.length * percent) / 100))] ?? Number.NaN;
}

/** Ends when the line is out. */
function print(line: TrafficLine): void {
  process.stdout.write(`${JSON.stringify(line)}\n`, () => {
    if (line.event === 'end') process.exit(failed > 0 ? 1 : 0);
  });
}

function fail(why: string): void {
  if (ended) return;
  ended = true;
  process.stderr.write(`${why}\n`, () => process.exit(1));
}
