// gRPC conformance: the suite that the Connect project runs against implementations of gRPC, with grpc-go as its
// subject. Through each listener of a sidecar, and through two sidecars in a row, exactly those cases pass that pass
// directly, with every time limit as it is by default.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { runProcess } from '../scripts/harness/process.ts';
import { requireTool, skipWithout } from '../scripts/harness/tool.ts';

t.setTimeout(240_000);

const ways = ['inbound', 'outbound', 'both'] as const;

/** How many cases there are, and how many of them grpc-go fails by itself. */
const subjects = {
  server: { cases: 374, failDirectly: 4 },
  client: { cases: 409, failDirectly: 4 },
} as const;
type Role = keyof typeof subjects;

const features = {
  versions: ['HTTP_VERSION_2'],
  protocols: ['PROTOCOL_GRPC'],
  codecs: ['CODEC_PROTO'],
  compressions: ['COMPRESSION_IDENTITY', 'COMPRESSION_GZIP'],
  supportsTls: false,
};

/** Between the ends alone a case has to pass once: their own races on a busy machine are not what is tested here. */
const triesWithoutSidecar = 3;

interface Results {
  readonly names: Set<string>;
  /** Case → what was wrong. */
  readonly failures: Map<string, string>;
}

async function runSuite(t: Test, role: Role, way?: string): Promise<Results> {
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-conformance-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const config = join(folder, 'features.yaml');
  writeFileSync(config, JSON.stringify({ features }));
  const wrapper = join(import.meta.dirname, 'support', 'conformance-subject.ts');
  const between = way === undefined ? [] : [process.execPath, wrapper, role, way];
  const subject = [...between, requireTool(`conformance-${role}`)];
  const args = ['--mode', role, '--conf', config, '--vv', '--', ...subject];
  const { output } = await runProcess(t, requireTool('connectconformance'), args, { limitMs: 100_000 });
  const names = new Set(
    [...output.matchAll(/^Sending request for "(.*)"\.\.\.$/gm)].map(([, name = '']) => name),
  );
  const failures = new Map<string, string>();
  for (const [, name = '', detail = ''] of output.matchAll(/^FAILED: (.*):\n((?:\t.*\n)*)/gm)) {
    failures.set(name, detail.trim());
  }
  const counted = /^(\d+) passed, (\d+) failed$/m.exec(output);
  if (Number(counted?.[1]) + Number(counted?.[2]) !== names.size || Number(counted?.[2]) !== failures.size) {
    t.fail('the runner ran every case', { output: output.slice(-4_000) });
  }
  return { names, failures };
}

async function runDirectly(t: Test, role: Role): Promise<Results> {
  const results = await runSuite(t, role);
  for (let tries = 1; tries < triesWithoutSidecar; tries += 1) {
    if (results.failures.size === subjects[role].failDirectly) break;
    const { failures } = await runSuite(t, role);
    for (const name of results.failures.keys()) if (!failures.has(name)) results.failures.delete(name);
  }
  return results;
}

for (const role of ['server', 'client'] as const) {
  const skip = skipWithout('connectconformance', `conformance-${role}`);
  t.test(`a ${role} behind sidecars passes the cases that it passes directly`, { skip }, async (t) => {
    const direct = await runDirectly(t, role);
    t.equal(direct.names.size, subjects[role].cases, 'the suite has the cases that it had');
    t.equal(direct.failures.size, subjects[role].failDirectly, 'grpc-go fails the cases that it failed');
    for (const way of ways) {
      const through = await runSuite(t, role, way);
      t.strictSame(through.names, direct.names, `${way}: the same cases`);
      t.strictSame(
        [...through.failures].filter(([name]) => !direct.failures.has(name)),
        [],
        `${way}: no case fails that passes directly`,
      );
      t.strictSame(
        [...direct.failures.keys()].filter((name) => !through.failures.has(name)),
        [],
        `${way}: no case passes that fails directly`,
      );
    }
  });
}
