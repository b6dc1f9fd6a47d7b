// Runs h2load and reads its report.
import { runProcess } from '../test/support/process.ts';
import { requireTool } from '../test/support/tool.ts';
import type { Cleanup } from './cleanup.ts';
import type { Document, Fixture } from './fixture.ts';

export interface Load {
  connections: number;
  /** Concurrent streams on each connection. */
  streams: number;
  /** As fast as it goes for this long, after a warm-up of a third of it … */
  seconds?: number;
  /** … or so many calls a second for this long. */
  callsPerSecond?: number;
  document: Document;
  /** `http` is HTTP/2 in plain text; the default. */
  scheme?: 'http' | 'https';
}

export interface LoadResult {
  callsPerSecond: number;
  calls: number;
  meanMs: number;
}

/**
 * Throws when any call failed, or when fewer bytes came than the answers have: a proxy that turns calls
 * down with a gRPC status is fast, and to h2load its HTTP 200 looks like success.
 */
export async function runLoad(
  cleanup: Cleanup,
  fixture: Fixture,
  port: number,
  core: number,
  load: Load,
): Promise<LoadResult> {
  const { connections, streams, seconds = 3, callsPerSecond, document, scheme = 'http' } = load;
  const pace =
    callsPerSecond === undefined
      ? ['-D', `${seconds}`, '--warm-up-time', `${Math.max(1, Math.round(seconds / 3))}`]
      : ['-n', `${Math.round(callsPerSecond * seconds)}`, '--rps', `${callsPerSecond / connections}`];
  const { code, output } = await runProcess(
    cleanup,
    requireTool('taskset'),
    [
      ...['-c', `${core}`, requireTool('h2load'), ...pace],
      ...['-c', `${connections}`, '-m', `${streams}`, '-w', '30', '-W', '30', '-d', fixture.requestFile],
      ...['-H', 'content-type: application/grpc', '-H', 'te: trailers'],
      `${scheme}://127.0.0.1:${port}${document.path}`,
    ],
    { limitMs: seconds * 4_000 + 20_000 },
  );
  if (code !== 0) throw new Error(`h2load ended with ${code}: ${output.slice(-800)}`);
  const result = readReport(output);
  if (result.failed > 0)
    throw new Error(`${result.failed} of ${result.calls} calls failed: ${output.slice(-800)}`);
  if (result.dataBytes < result.calls * document.body.length * 0.99) {
    throw new Error(`the answers are short: ${result.dataBytes} bytes in ${result.calls} calls`);
  }
  return result;
}

export interface Report extends LoadResult {
  failed: number;
  dataBytes: number;
}

export function readReport(output: string): Report {
  const number = (pattern: RegExp): number => {
    const found = pattern.exec(output)?.[1];
    if (found === undefined) throw new Error(`h2load's report has no ${pattern}: ${output.slice(-800)}`);
    return Number(found);
  };
  const [, mean, unit] = /time for request:\s+[\d.]+\w+\s+[\d.]+\w+\s+([\d.]+)(us|ms|s)\b/.exec(output) ?? [
    undefined,
    '0',
    's',
  ];
  return {
    callsPerSecond: number(/finished in [\d.]+\w+, ([\d.]+) req\/s/),
    calls: number(/requests: .* (\d+) done/),
    failed:
      number(/succeeded, (\d+) failed/) +
      number(/status codes: \d+ 2xx, (\d+) 3xx/) +
      number(/(\d+) 4xx/) +
      number(/(\d+) 5xx/),
    dataBytes: number(/\((\d+)\) data/),
    meanMs: Number(mean) * { us: 0.001, ms: 1, s: 1_000 }[unit as 'us' | 'ms' | 's'],
  };
}
