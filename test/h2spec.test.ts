// HTTP/2 conformance: every case of h2spec against both listeners of a real sidecar process.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { freePort } from '../scripts/harness/free-port.ts';
import { readJUnit } from '../scripts/harness/junit.ts';
import { canConnect } from '../scripts/harness/net.ts';
import { runProcess, startProcess } from '../scripts/harness/process.ts';
import { outboundTo, type Sidecar, startSidecar } from '../scripts/harness/sidecar.ts';
import { requireTool, skipWithout } from '../scripts/harness/tool.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';

const cases = 145;

t.setTimeout(290_000);

/** nghttpd with a document for `/`, which is what h2spec asks for. Several cases need an answer with a body. */
async function startUpstream(t: Test): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-h2spec-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  writeFileSync(join(folder, 'index.html'), `<p>${'A page of some hundred bytes. '.repeat(20)}</p>\n`);
  const port = await freePort();
  const started = startProcess(t, requireTool('nghttpd'), [
    '--no-tls',
    '-a',
    '127.0.0.1',
    '-d',
    folder,
    `${port}`,
  ]);
  await waitUntil('nghttpd listened', () => canConnect(port));
  t.ok(started.pid > 0, 'nghttpd runs');
  return `127.0.0.1:${port}`;
}

async function runH2spec(t: Test, port: number, sidecar: Sidecar): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-h2spec-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const report = join(folder, 'report.xml');
  const { output } = await runProcess(
    t,
    requireTool('h2spec'),
    ['--host', '127.0.0.1', '--port', `${port}`, '--timeout', '4', '--junit-report', report],
    { limitMs: 90_000 },
  );
  const results = readJUnit(readFileSync(report, 'utf8'));
  for (const { suite, name, outcome, detail } of results) {
    t.equal(outcome, 'passed', `${suite}: ${name}${detail === '' ? '' : ` (${detail})`}`);
  }
  t.equal(results.length, cases, `h2spec ran its ${cases} cases`);
  t.match(output, `${cases} tests, ${cases} passed, 0 skipped, 0 failed`);
  t.equal(sidecar.child.exitCode, null, 'the sidecar still runs');
}

const skip = skipWithout('h2spec', 'nghttpd');

t.test('the outbound listener passes h2spec', { skip }, async (t) => {
  const upstream = await startUpstream(t);
  const sidecar = await startSidecar(t, outboundTo(upstream), { until: 'live' });
  await runH2spec(t, sidecar.outboundPort, sidecar);
});

t.test('the inbound listener passes h2spec', { skip }, async (t) => {
  const upstream = await startUpstream(t);
  const sidecar = await startSidecar(t, { inbound: { app: upstream } });
  await runH2spec(t, sidecar.inboundPort, sidecar);
});
