// The command line as a user meets it: real processes, their output and their exit codes.
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import * as yaml from 'yaml';

const root = fileURLToPath(new URL('../../', import.meta.url));
const { version } = JSON.parse(readFileSync(`${root}package.json`, 'utf8')) as { version: string };

interface Outcome {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function outrigger(
  args: readonly string[],
  env: Record<string, string> = {},
  entry = 'sidecar/main.ts',
): Outcome {
  const { status, stdout, stderr } = spawnSync(process.execPath, [`${root}${entry}`, ...args], {
    encoding: 'utf8',
    env: { PATH: process.env['PATH'] ?? '', ...env },
    timeout: 60_000,
  });
  return { exitCode: status, stdout, stderr };
}

t.test('check prints the effective configuration', async (t) => {
  const path = `${t.testdir({ 'a.yaml': 'name: research-agent\nlog: { level: warn }\n' })}/a.yaml`;
  const args = ['check', '--config', path, '--inbound.app=127.0.0.1:7'];
  const { exitCode, stdout, stderr } = outrigger(args, { OUTRIGGER_LOG_LEVEL: 'debug' });
  t.equal(exitCode, 0);
  t.equal(stderr, '');
  t.match(yaml.parse(stdout), {
    name: 'research-agent',
    inbound: { app: '127.0.0.1:7', timeout: '60s', max_message_bytes: 10_485_760 },
    llm: { upstreams: [{ api_key_env: 'OPENAI_API_KEY' }] },
    log: { level: 'debug' },
  });
  t.equal(outrigger(['check', '-c', path]).exitCode, 0);
  t.equal(outrigger(['check', `--config=${path}`]).exitCode, 0);
});

t.test('the output of check is a file with the same meaning', async (t) => {
  const clusters =
    'outbound: { clusters: { a: { endpoints: ["127.0.0.1:1"] }, b: { endpoints: ["127.0.0.1:1"], idle_timeout: 5m } } }';
  const directory = t.testdir({ 'a.yaml': `inbound: { max_timeout: 90s }\n${clusters}\n` });
  const { stdout } = outrigger(['check', '--config', `${directory}/a.yaml`]);
  const comment = 'idle_timeout: null # 5m for StreamProcess, none for other methods';
  t.equal(stdout.split(comment).length, 3, 'of inbound and of one cluster');
  t.match(stdout, /^ {6}idle_timeout: 5m$/m, 'given, it is for all streams');
  t.match(stdout, /^ {2}max_timeout: 90s$/m);
  writeFileSync(`${directory}/b.yaml`, stdout);
  t.equal(outrigger(['check', '--config', `${directory}/b.yaml`]).stdout, stdout);
  const env = { OUTRIGGER_OUTBOUND_CLUSTERS_B_IDLE_TIMEOUT: 'null' };
  t.equal(outrigger(['check', '--config', `${directory}/a.yaml`], env).stdout.split(comment).length, 4);
});

t.test('check never prints a key', async (t) => {
  const secret = 'sk-live-0123456789';
  const upstreams = `[{name: a, url: "https://u:${secret}@a.example/v1?k=${secret}"}]`;
  const env = { OPENAI_API_KEY: secret, OUTRIGGER_LLM_UPSTREAMS: upstreams };
  const { exitCode, stdout, stderr } = outrigger(['check'], env);
  t.equal(exitCode, 0);
  t.notMatch(stdout + stderr, secret);
});

t.test('check reports settings that work, but perhaps not as intended', async (t) => {
  const env = { OPENAI_BASE_URL: 'http://llm.example:8000/v1', OPENAI_API_KEY: '' };
  const { exitCode, stdout, stderr } = outrigger(['check'], env);
  t.match({ exitCode, stdout }, { exitCode: 0, stdout: /url: http:\/\/llm\.example:8000\/v1/ });
  t.match(stderr, /^warning: llm\.upstreams\[0\]\.api_key_env: the variable OPENAI_API_KEY is not set/);
});

t.test('check and run refuse a wrong configuration with every problem', async (t) => {
  const path = `${t.testdir({ 'a.yaml': 'inbound:\n  timeout: 60\n  ap: x\n' })}/a.yaml`;
  for (const command of ['check', 'run']) {
    const { exitCode, stdout, stderr } = outrigger(
      [command, '--config', path, '--log.levl', 'info', 'stray'],
      {
        OUTRIGGER_NAM: 'x',
      },
    );
    t.equal(exitCode, 64, command);
    t.equal(stdout, '');
    t.equal(
      stderr,
      `"stray": is not expected here
    flags begin with --; the file is --config FILE
${path}:2:12: inbound.timeout: can not be the number 60
    write the unit: 60s or 60ms
${path}:3:3: inbound.ap: is not a known key
    did you mean app?
OUTRIGGER_NAM: is not a known setting
    did you mean OUTRIGGER_NAME?
--log.levl: is not a known setting
    did you mean --log.level?
5 problems
`,
    );
  }
  t.match(outrigger(['check', '--config']), { exitCode: 64, stderr: /--config: has no value/ });
  t.match(outrigger(['check', '-c', '/nowhere.yaml']), {
    exitCode: 64,
    stderr: /\/nowhere\.yaml: does not exist/,
  });
});

t.test('the flags --help and --version print help and version', async (t) => {
  t.strictSame(outrigger(['--version']), { exitCode: 0, stdout: `${version}\n`, stderr: '' });
  const help = outrigger(['--help']);
  t.match(help, { exitCode: 0, stderr: '' });
  for (const command of ['run', 'check', 'status', 'calls', 'drain', 'inject', 'webhook', 'istio'])
    t.match(help.stdout, `outrigger ${command}`);
  t.match(outrigger([]), { exitCode: 64, stdout: '', stderr: /outrigger run/ });
  t.match(outrigger(['chek']), { exitCode: 64, stderr: /"chek" is not a command\n {4}did you mean check\?/ });
  t.match(outrigger(['\u001b[31m']), { exitCode: 64, stderr: /"\\u001b\[31m" is not a command/ });
  const settings = outrigger(['run', '--help', '--all']).stdout;
  t.match(settings, /--inbound\.app \[127\.0\.0\.1:50051\]\n {6}\S/);
  t.match(settings, /--outbound\.clusters\.NAME\.retry\.max_attempts \[3\]/);
});

t.test('a closed output is not an error', async (t) => {
  // The reader closes the pipe long before there is output.
  const command = `{ "${process.execPath}" "${root}sidecar/main.ts" check; echo "exit $?" >&2; } | true`;
  const { stderr } = spawnSync('sh', ['-c', command], { encoding: 'utf8' });
  t.equal(stderr, 'exit 0\n');
});

t.test('the launcher runs the commands', async (t) => {
  t.strictSame(outrigger(['--version'], {}, 'sidecar/bin.mjs'), {
    exitCode: 0,
    stdout: `${version}\n`,
    stderr: '',
  });
  t.equal(outrigger(['chek'], {}, 'sidecar/bin.mjs').exitCode, 64);

  t.test('the launcher refuses a Node that is too old', async (t) => {
    // A copy of the launcher that believes in an older Node; what it starts is real.
    // Outside of the checkout, whose node_modules the launcher would find.
    const directory = mkdtempSync(join(tmpdir(), 'outrigger-launcher-'));
    t.teardown(() => rmSync(directory, { recursive: true, force: true }));
    mkdirSync(`${directory}/sidecar`);
    const launcher = readFileSync(`${root}sidecar/bin.mjs`, 'utf8').replace(
      'process.versions.node',
      "'20.11.0'",
    );
    writeFileSync(`${directory}/sidecar/bin.mjs`, launcher);
    const start = () => {
      const args = [`${directory}/sidecar/bin.mjs`, 'chek'];
      const { status, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
      return { exitCode: status, stderr };
    };
    t.match(start(), { exitCode: 69, stderr: /needs Node 24.*npm install/s });

    for (const part of readdirSync(`${root}sidecar`)) {
      if (part === 'bin.mjs') continue;
      cpSync(`${root}sidecar/${part}`, `${directory}/sidecar/${part}`, { recursive: true });
    }
    cpSync(`${root}package.json`, `${directory}/package.json`);
    // As npm installs it.
    const brought = `${directory}/node_modules/node-${process.platform}-${process.arch}`;
    mkdirSync(`${brought}/bin`, { recursive: true });
    writeFileSync(`${brought}/package.json`, '{}');
    symlinkSync(process.execPath, `${brought}/bin/node`);
    t.match(
      start(),
      { exitCode: 64, stderr: /did you mean check/ },
      'the one installed beside it takes over',
    );

    const killed = `#!/bin/sh\nkill -TERM $$\n`;
    const fake = `${brought}/bin/node`;
    rmSync(fake);
    writeFileSync(fake, killed);
    chmodSync(fake, 0o755);
    const { signal } = spawnSync(process.execPath, [`${directory}/sidecar/bin.mjs`, 'run']);
    t.equal(signal, 'SIGTERM', 'it ends as the other one ended');
  });
});
