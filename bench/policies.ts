// What the policies cost: the relay with all of them on, beside the same relay with all of them off. Rounds are
// interleaved and each pair is compared in its round.
//
//     node bench/policies.ts [ROUNDS] [SECONDS]
import { runProcess } from '../test/support/process.ts';
import { startSidecar } from '../test/support/sidecar.ts';
import { requireTool } from '../test/support/tool.ts';
import { Cleanup } from './cleanup.ts';
import { cpuMicroseconds } from './cpu.ts';
import { writeFixture } from './fixture.ts';
import { startUpstream } from './targets.ts';

const [rounds = 5, seconds = 4] = process.argv.slice(2).map(Number);
const targetCore = 0;
const loadCore = 1;

const off = {
  circuit_breaker: { consecutive_failures: 0, failure_percent: 0 },
  outlier_detection: { consecutive_failures: 0, max_ejection_percent: 0 },
  retry: { max_attempts: 1 },
  idle_timeout: '0s',
  task: { status_is_verdict: false, deduplicate: false },
};

const cleanup = new Cleanup();
try {
  const { folder } = writeFixture(cleanup);
  const app = `127.0.0.1:${await startUpstream(cleanup, loadCore, folder)}`;
  const routes = [{ match: { path_prefix: '/' }, cluster: 'upstream' }];
  const outbound = (policies: object) => ({
    outbound: { routes, clusters: { upstream: { endpoints: [app], ...policies } } },
  });
  const configs = {
    'inbound, no policies': { inbound: { app, tasks: { deduplicate: false } } },
    'inbound, all policies': { inbound: { app, queue: { max_calls: 1024 }, adaptive_concurrency: false } },
    'outbound, no policies': outbound(off),
    'outbound, all policies': outbound({}),
  };
  const targets = [];
  for (const [name, config] of Object.entries(configs)) {
    const sidecar = await startSidecar(cleanup, config, {
      launcher: [requireTool('taskset'), '-c', `${targetCore}`],
      until: name.startsWith('inbound') ? 'ready' : 'live',
      env: { NODE_ENV: 'production' },
    });
    const port = name.startsWith('inbound') ? sidecar.inboundPort : sidecar.outboundPort;
    targets.push({ name, port, pid: sidecar.pid, calls: [] as number[], cpu: [] as number[] });
  }
  for (let round = 0; round < rounds; round++) {
    for (const { name, port, pid, calls, cpu } of targets) {
      const before = cpuMicroseconds(pid);
      const { code, output } = await runProcess(
        cleanup,
        requireTool('taskset'),
        [
          '-c',
          `${loadCore}`,
          process.execPath,
          `${import.meta.dirname}/task-load.ts`,
          `${port}`,
          '4',
          '25',
          `${seconds}`,
        ],
        { limitMs: seconds * 3_000 + 20_000 },
      );
      if (code !== 0) throw new Error(`${name}: the load ended with ${code}: ${output.slice(-500)}`);
      const result = JSON.parse(output.trim().split('\n').at(-1)!) as {
        callsPerSecond: number;
        calls: number;
      };
      calls.push(result.callsPerSecond);
      // The warm-up is a third of the time, and its calls cost as much.
      cpu.push((cpuMicroseconds(pid) - before) / (result.calls * (4 / 3)));
      console.log(
        `round ${round + 1}: ${name}: ${result.callsPerSecond.toFixed(0)} calls/s, ${cpu.at(-1)!.toFixed(1)} us a call`,
      );
    }
  }
  const median = (list: readonly number[]): number => list.toSorted((a, b) => a - b)[list.length >> 1]!;
  for (const [plain, full] of [
    [targets[0]!, targets[1]!],
    [targets[2]!, targets[3]!],
  ] as const) {
    const speed = median(full.calls.map((value, i) => value / plain.calls[i]!));
    const cost = median(full.cpu.map((value, i) => value / plain.cpu[i]!));
    console.log(
      `${full.name}: ${(100 * speed).toFixed(0)} % of the calls a second without them, CPU a call × ${cost.toFixed(2)}`,
    );
  }
} finally {
  await cleanup.run();
}
