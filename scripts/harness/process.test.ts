// Tests of the helpers: their processes must end, and their counts must be right.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { closingCounts, TapDigest } from '../tap-digest.ts';
import { freePort } from './free-port.ts';
import { readJUnit } from './junit.ts';
import { residentBytes } from './memory.ts';
import { canConnect } from './net.ts';
import { runProcess, startProcess } from './process.ts';
import { RawClient, rawPaths, startRawServer } from './raw-grpc.ts';
import { waitUntil } from './wait-until.ts';

const node = process.execPath;

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

t.test('a started process ends with its test', async (t) => {
  let pid = 0;
  await t.test('inner', async (t) => {
    const started = startProcess(t, node, ['-e', "console.log('up'); setInterval(() => {}, 1000)"]);
    await waitUntil('the process printed', () => started.logs().includes('up'));
    pid = started.pid;
    t.ok(isRunning(pid));
    t.ok(residentBytes(pid) > 1_000_000);
  });
  t.notOk(isRunning(pid));
});

t.test('a group ends with its test, with the processes that it started itself', async (t) => {
  const inner = 'setInterval(() => {}, 1000)';
  const outer = `
    const { spawn } = require('node:child_process');
    console.log('child ' + spawn(process.execPath, ['-e', ${JSON.stringify(inner)}]).pid);
    setInterval(() => {}, 1000);
  `;
  let pid = 0;
  await t.test('inner', async (t) => {
    const started = startProcess(t, node, ['-e', outer], { group: true });
    pid = Number(await waitUntil('the child runs', () => /child (\d+)\n/.exec(started.logs())?.[1]));
    t.ok(isRunning(pid));
  });
  await waitUntil('the child ended', () => !isRunning(pid));
  t.pass('none is left');
});

t.test('a started process ends when a signal ends the file that started it', async (t) => {
  const script = `
    import { startProcess } from ${JSON.stringify(join(import.meta.dirname, 'process.ts'))};
    const child = startProcess({ teardown() {} }, process.execPath, ['-e', 'setInterval(() => {}, 1000)']);
    console.log('child ' + child.pid);
  `;
  for (const signal of ['SIGTERM', 'SIGALRM'] as const) {
    const outer = startProcess(t, node, ['--input-type=module', '-e', script]);
    const pid = Number(
      await waitUntil('the file started its child', () => /child (\d+)\n/.exec(outer.logs())?.[1]),
    );
    t.ok(isRunning(pid));
    outer.kill(signal);
    await outer.ended;
    await waitUntil('the child ended', () => !isRunning(pid));
    t.pass(`ended after ${signal}`);
  }
});

t.test('a program that does not exist or takes too long is an outcome, not a hang', async (t) => {
  t.match(await runProcess(t, '/does/not/exist', []), { code: 127, output: /can't be started/ });
  const slow = await runProcess(t, node, ['-e', 'setInterval(() => {}, 1000)'], { limitMs: 200 });
  t.equal(slow.code, 'SIGKILL');
  t.match(await runProcess(t, node, ['-e', "console.error('no'); process.exit(3)"]), {
    code: 3,
    output: 'no\n',
  });
});

t.test('free ports differ and can be listened on', async (t) => {
  const ports = [await freePort(), await freePort(), await freePort()];
  t.equal(new Set(ports).size, 3);
  t.notOk(await canConnect(ports[0]!));
  const server = await startRawServer(t, {}, { port: ports[0]! });
  t.equal(server.port, ports[0]);
  t.ok(await canConnect(ports[0]!));
});

t.test('a socket whose end is on its way can be reset, and leaves nothing behind', async (t) => {
  const server = `
    import { connect, createServer } from 'node:net';
    import { resetSocket } from ${JSON.stringify(join(import.meta.dirname, 'net.ts'))};
    const server = createServer((socket) => socket.resume().on('error', () => server.close()));
    server.listen(0, '127.0.0.1', () => {
      const socket = connect(server.address().port, '127.0.0.1', () => {
        socket.end();
        // The moment in which the end is asked for and not sent.
        process.nextTick(() => process.nextTick(() => resetSocket(socket)));
      });
      socket.on('close', () => server.close());
    });
  `;
  const { code, output } = await runProcess(t, node, ['--input-type=module', '-e', server]);
  t.equal(code, 0, output);
});

t.test('the error of a timeout names the condition', async (t) => {
  await t.rejects(
    waitUntil('pigs flew', () => false, { limitMs: 30, everyMs: 5 }),
    /timeout of 30 ms while waiting until pigs flew/,
  );
  const failing = waitUntil('it worked', () => Promise.reject(new Error('broken')), { limitMs: 10 });
  await t.rejects(failing, { cause: { message: 'broken' } });
});

t.test('the raw client and server support all four kinds of call', async (t) => {
  const { port } = await startRawServer(t);
  const client = new RawClient(t, port);
  const [a, b] = [Buffer.from('a'), Buffer.from('b')];
  t.match(await client.unary(a), { code: 0, response: a });
  t.match(await client.unary(a, { path: '/test.Raw/None' }), { code: 12 });
  t.match(await client.unary(a, { path: rawPaths.unary, deadline: Date.now() - 1 }), { code: 4 });
  const joined = await new Promise((resolve) => {
    const call = client.clientStream((_, value) => resolve(value));
    call.write(a);
    call.write(b);
    call.end();
  });
  t.same(joined, Buffer.from('ab'));
  t.same(await client.serverStream(b).toArray(), [b, b, b]);
  const bidi = client.bidi();
  bidi.write(a);
  bidi.write(b);
  bidi.end();
  t.same(await bidi.toArray(), [a, b]);
});

t.test("reads h2spec's report", async (t) => {
  const xml = `<?xml version="1.0"?><testsuites>
    <testsuite name="1. Start" package="generic/1" tests="1"><testcase classname="Sends a &lt;preface&gt;" time="0.1"></testcase></testsuite>
    <testsuite name="2. None" package="generic/2" tests="0"></testsuite>
    <testsuite name="3. Frames" tests="2">
      <testcase package="x" classname="fails"><failure>GOAWAY&#xA;closed</failure><error>DATA &amp; more</error></testcase>
      <testcase package="x" classname="left out"><skipped></skipped></testcase>
    </testsuite></testsuites>`;
  t.strictSame(readJUnit(xml), [
    { suite: '1. Start', name: 'Sends a <preface>', outcome: 'passed', detail: '' },
    { suite: '3. Frames', name: 'fails', outcome: 'failed', detail: 'GOAWAY; closedDATA & more' },
    { suite: '3. Frames', name: 'left out', outcome: 'skipped', detail: '' },
  ]);
});

/** Runs real test files with the real runner and digests its output. */
function digestOf(
  t: Test,
  files: Record<string, string>,
): { lines: string[]; digest: TapDigest; code: number } {
  const root = join(import.meta.dirname, '..', '..');
  const folder = mkdtempSync(join(root, '.cache', 'digest-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  // A separate project, because the runner keeps state in the project's folder and this one is under test.
  writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
  writeFileSync(join(folder, '.taprc'), 'type-strip-only: true\ndisable-coverage: true\n');
  const paths = Object.entries(files).map(([name, text]) => {
    const path = join(folder, name);
    writeFileSync(path, `import t from 'tap';\n${text}\n`);
    return path;
  });
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^_?TAP/.test(name)));
  const args = ['--reporter=tap', '--jobs=2', '--timeout=60', ...paths];
  const tap = join(root, 'node_modules', '.bin', 'tap');
  const { stdout, status } = spawnSync(tap, args, { cwd: folder, env, encoding: 'utf8' });
  const lines: string[] = [];
  const digest = new TapDigest((line) => lines.push(line));
  // In pieces that end anywhere, like those of a pipe.
  for (let at = 0; at < stdout.length; at += 7) digest.write(stdout.slice(at, at + 7));
  digest.end();
  return { lines, digest, code: status ?? -1 };
}

t.test('the digest counts tests, and shows failures and skips', async (t) => {
  const { lines, digest, code } = digestOf(t, {
    'ending.test.ts': "t.ok(1); process.on('exit', () => { process.exitCode = 3; });",
    'good.test.ts': "t.equal(1, 1); t.test('inner', async (t) => { t.ok(true); t.ok(1); });",
    'bad.test.ts': "t.equal(1, 2, 'one is two');",
    'skipping.test.ts': "t.ok(1); t.test('needs a tool', { skip: 'without it' }, async () => {});",
  });
  t.strictSame(digest.counts, { passed: 5, failed: 2, skipped: 1 });
  t.not(code, 0);
  const text = lines.join('\n');
  t.match(text, /not ok 1 - one is two/);
  t.match(text, /ok 2 - needs a tool # SKIP without it/);
  t.match(text, /^ok \d - .*good\.test\.ts/m);
  t.match(
    text,
    /^not ok \d - .*ending\.test\.ts.*\n {2}---\n(?: .*\n)* {2}exitCode: 3$/m,
    'why a file failed',
  );
  t.notMatch(text, /inner/, 'a passed file has one line');
});

t.test('the digest has no passes for a file that fails before its first test', async (t) => {
  const { digest, code } = digestOf(t, { 'broken.test.ts': "throw new Error('broken');" });
  t.equal(digest.counts.passed, 0);
  t.not(code, 0);
  t.strictSame(closingCounts(''), { passed: 0, failed: 0, skipped: 0 });
});
