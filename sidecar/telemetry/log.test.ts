// The log: its format, what it leaves out, and that no call waits for its reader.
import { spawn, spawnSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { createLogger, type LogOptions } from './log.ts';

function capture(options: Partial<LogOptions> = {}) {
  const lines: string[] = [];
  const stream = { write: (line: string) => void lines.push(line) };
  const logger = createLogger({ level: 'info', stream, ...options });
  return { logger, lines, last: () => JSON.parse(lines.at(-1)!) as Record<string, unknown> };
}

t.test('a line is one JSON object', async (t) => {
  const { logger, lines, last } = capture({ base: { name: 'agent' } });
  logger.child({ cluster: 'writing' }).warn({ ms: 3 }, 'slow\nanswer');
  t.equal(lines.length, 1);
  t.match(lines[0], /^[^\n]+\n$/);
  const { time, ...rest } = last();
  t.match(time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  t.strictSame(rest, { level: 'warn', name: 'agent', cluster: 'writing', ms: 3, msg: 'slow\nanswer' });
});

t.test('the level can change while it runs', async (t) => {
  const { logger, lines } = capture();
  logger.debug('no');
  logger.level = 'debug';
  logger.debug('yes');
  logger.level = 'silent';
  logger.fatal('no');
  t.equal(lines.length, 1);
});

t.test('the log removes secrets wherever they are', async (t) => {
  const secret = 'sk-live-0123456789';
  const { logger, lines, last } = capture();
  const request = { headers: { authorization: secret }, url: '/x' };
  logger.info(
    { request, metadata: [secret], 'api-key': secret, ApiKey: secret, list: [{ token: secret }] },
    'x',
  );
  t.match(last(), {
    request: { headers: '[removed]', url: '/x' },
    metadata: '[removed]',
    list: [{ token: '[removed]' }],
  });
  logger.child({ password: secret, request }).child({ cookie: secret }).info('x');
  t.match(last(), { password: '[removed]', cookie: '[removed]' });
  let deep: unknown = secret;
  for (let i = 0; i < 10; i++) deep = { deep };
  logger.info({ deep }, 'x');
  const circle: { circle?: unknown } = {};
  circle.circle = circle;
  logger.info({ circle }, 'x');
  t.notMatch(lines.join(''), secret);
  t.strictSame(request, { headers: { authorization: secret }, url: '/x' }, 'what was logged is not changed');
  logger.info({ tokens: 7, total_tokens: 9 }, 'x');
  t.match(last(), { tokens: 7, total_tokens: 9 }, 'counts of tokens are none');
});

t.test('the log writes errors without the properties that clients add', async (t) => {
  const { logger, lines, last } = capture();
  const cause = Object.assign(new Error('refused'), { code: 'ECONNREFUSED', headers: { a: 'sk-live' } });
  const error = Object.assign(new TypeError('no answer', { cause }), {
    request: { key: 'sk-live' },
    status: 503,
  });
  logger.error({ err: error }, 'x');
  t.match(last(), {
    err: { type: 'TypeError', message: 'no answer', cause: { code: 'ECONNREFUSED', message: 'refused' } },
  });
  t.type((last()['err'] as { stack: string }).stack, 'string');
  logger.error(error);
  t.notMatch(lines.join(''), 'sk-live');
  logger.error({ err: 'only text' }, 'x');
  t.match(last(), { err: 'only text' });
});

const module = JSON.stringify(fileURLToPath(new URL('log.ts', import.meta.url)));
const writer = JSON.stringify(fileURLToPath(new URL('../node/line-writer.ts', import.meta.url)));

t.test('standard output has every line when the process ends by itself', async (t) => {
  const script = `import { createLogger } from ${module};
    const logger = createLogger({ level: 'info' });
    for (let i = 0; i < 1000; i++) logger.info({ i }, 'x');
    process.exit(3);`;
  const { status, stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    encoding: 'utf8',
  });
  t.equal(status, 3);
  const numbers = stdout
    .trim()
    .split('\n')
    .map((line) => (JSON.parse(line) as { i: number }).i);
  t.strictSame(
    numbers,
    Array.from({ length: 1000 }, (_, i) => i),
  );
});

t.test('a reader that does not read does not block the process', async (t) => {
  const script = `import { createLogger } from ${module};
    import { stdoutWriter } from ${writer};
    const lines = stdoutWriter();
    const logger = createLogger({ level: 'info', stream: lines });
    const text = 'x'.repeat(1000);
    for (let i = 0; i < 20_000; i++) {
      logger.info({ i }, text);
      if (i % 100 === 0) await new Promise(setImmediate);
    }
    process.stderr.write(String(lines.dropped > 10_000) + ' ' + String(process.memoryUsage().rss < 200e6));
    process.exit(0);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  // Nobody reads child.stdout.
  let said = '';
  child.stderr!.setEncoding('utf8').on('data', (chunk: string) => (said += chunk));
  const code = await new Promise((resolve) => child.once('exit', resolve));
  t.equal(said, 'true true');
  t.equal(code, 0, 'nor the end of the process');
});

t.test('the log reports the number and place of missing lines to a reader that returns', async (t) => {
  const script = `import { createLogger } from ${module};
    import { stdoutWriter } from ${writer};
    const lines = stdoutWriter();
    const logger = createLogger({ level: 'error', stream: lines });
    const access = logger.child({}, { level: 'info' });
    for (let i = 0; i < 20_000; i++) {
      access.info({ i }, 'x'.repeat(200));
      if (i % 100 === 0) await new Promise(setImmediate);
    }
    process.stderr.write(String(lines.dropped));
    await new Promise((resolve) => process.stdin.once('data', resolve));
    access.info({ i: 20_000 }, 'the last one');
    process.exit(0);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script]);
  t.teardown(() => child.kill('SIGKILL'));
  const dropped = await new Promise<number>((resolve) =>
    child.stderr.setEncoding('utf8').once('data', (chunk: string) => resolve(Number(chunk))),
  );
  t.ok(dropped > 1000, `${dropped} dropped`);
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    if (text === '') child.stdin.write('go on');
    text += chunk;
  });
  await new Promise((resolve) => child.once('close', resolve));
  const lines = text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, number | string>);
  let next = 0;
  let missed = 0;
  let inOrder = true;
  for (const { i, dropped_lines } of lines) {
    if (dropped_lines !== undefined) missed += Number(dropped_lines);
    else {
      inOrder &&= i === next++ + missed;
    }
  }
  t.ok(
    missed === dropped || missed === dropped + 1,
    `${missed} told, ${dropped} dropped before the last one`,
  );
  t.ok(inOrder, 'each line stands behind the word of those that are missing before it');
  t.equal(next + missed, 20_001, 'each line is there, or among those that are missing');
});

t.test('the process continues after its log reader has closed', async (t) => {
  const script = `import { createLogger } from ${module};
    const logger = createLogger({ level: 'info' });
    for (let i = 0; i < 50; i++) {
      logger.info('x');
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    process.stderr.write('went on');`;
  const command = `"${process.execPath}" --input-type=module -e "$SCRIPT" | true`;
  const { stderr } = spawnSync('sh', ['-c', command], {
    encoding: 'utf8',
    env: { ...process.env, SCRIPT: script },
  });
  t.equal(stderr, 'went on');
});

t.test('the process continues when the disk is full', async (t) => {
  const script = `import { createLogger } from ${module};
    import { stdoutWriter } from ${writer};
    const lines = stdoutWriter();
    const logger = createLogger({ level: 'info', stream: lines });
    logger.info('x');
    setTimeout(() => {
      logger.info('y');
      process.on('exit', () => process.stderr.write(String(lines.dropped)));
    }, 50);`;
  const full = openSync('/dev/full', 'w');
  t.teardown(() => closeSync(full));
  const args = ['--input-type=module', '-e', script];
  const { status, stderr } = spawnSync(process.execPath, args, {
    encoding: 'utf8',
    stdio: ['ignore', full, 'pipe'],
  });
  t.equal(status, 0);
  t.equal(stderr, '2');
});
