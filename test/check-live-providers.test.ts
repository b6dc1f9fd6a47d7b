// `outrigger check --live` on providers of each kind: what is wrong with the key, the url, the certificate or a model.
import { writeFileSync } from 'node:fs';
import type { IncomingMessage, RequestListener } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type Issued, TestAuthority } from '../scripts/harness/certificates.ts';
import { runProcess } from '../scripts/harness/process.ts';

t.setTimeout(120_000);
const main = join(import.meta.dirname, '..', 'sidecar', 'main.ts');
const KEY = 'live-key-0123456789';

interface Result {
  readonly level: string;
  readonly path: string;
  readonly message: string;
  readonly remedy: string;
}

interface Kind {
  readonly kind: string;
  /** The path of its base URL. */
  readonly base: string;
  readonly list: string;
  readonly keyOf: (request: IncomingMessage) => unknown;
  readonly refusal: readonly [status: number, body: object];
  readonly models: object;
}

const openAiList = { object: 'list', data: [{ id: 'known', object: 'model' }] };
const bearer = ({ headers }: IncomingMessage) => headers.authorization?.replace('Bearer ', '');
const KINDS: readonly Kind[] = [
  { kind: 'openai', base: '/v1', list: '/v1/models', keyOf: bearer, refusal: [401, {}], models: openAiList },
  {
    kind: 'compatible',
    base: '/v1',
    list: '/v1/models',
    keyOf: bearer,
    refusal: [403, {}],
    models: openAiList,
  },
  {
    kind: 'azure',
    base: '',
    list: '/openai/v1/models',
    keyOf: ({ headers }) => headers['api-key'],
    refusal: [401, {}],
    models: openAiList,
  },
  {
    kind: 'anthropic',
    base: '',
    list: '/v1/models',
    keyOf: ({ headers }) => headers['x-api-key'],
    refusal: [401, { type: 'error', error: { type: 'authentication_error', message: 'invalid x-api-key' } }],
    models: { data: [{ type: 'model', id: 'known' }], has_more: false },
  },
  {
    kind: 'gemini',
    base: '/v1beta',
    list: '/v1beta/models',
    keyOf: ({ headers }) => headers['x-goog-api-key'],
    refusal: [400, { error: { code: 400, message: 'API key not valid. Please pass a valid API key.' } }],
    models: { models: [{ name: 'models/known' }] },
  },
];

async function serve(t: Test, issued: Issued, listener: RequestListener): Promise<string> {
  const server = createServer(issued, listener);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
  });
  return `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const answers =
  ({ list, keyOf, refusal, models }: Kind): RequestListener =>
  (request, response) => {
    const send = (status: number, body: object): void => {
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    };
    const [path = ''] = (request.url ?? '').split('?', 1);
    if (keyOf(request) !== KEY) send(...refusal);
    else if (request.method === 'POST') {
      let text = '';
      request.on('data', (part) => {
        text += part;
      });
      request.on('end', () =>
        text.includes('"known"')
          ? send(400, { error: { code: 'invalid_request', message: 'messages is missing' } })
          : send(404, {
              error: { code: 'DeploymentNotFound', message: 'The API deployment does not exist.' },
            }),
      );
    } else if (path === list) send(200, models);
    else send(404, { error: { code: '404', message: 'Resource not found' } });
  };

t.test('check --live says for each kind what is wrong', async (t) => {
  const authority = await TestAuthority.make('providers');
  const good = await authority.issue({ names: ['127.0.0.1'] });
  const past = Date.now() - 3_600_000;
  const expired = await authority.issue({
    names: ['127.0.0.1'],
    notBeforeMs: past - 3_600_000,
    notAfterMs: past,
  });
  const other = await TestAuthority.make('another');
  const folder = t.testdir({ ca: authority.ca, other: other.ca });
  const ca = `${folder}/ca`;
  const upstreams: object[] = [];
  const expected: [name: string, level: string, path: RegExp, message: RegExp][] = [];
  const add = (name: string, upstream: object, level: string, path: RegExp, message: RegExp): void => {
    upstreams.push({ name, api_key_env: 'GOOD_KEY', ca, ...upstream });
    expected.push([name, level, path, message]);
  };
  for (const one of KINDS) {
    const { kind, base } = one;
    const root = await serve(t, good, answers(one));
    const url = root + base;
    const old = (await serve(t, expired, answers(one))) + base;
    add(`${kind} good`, { kind, url, model: 'known' }, 'ok', /^$/, /takes the key of GOOD_KEY/);
    add(
      `${kind} key`,
      { kind, url, api_key_env: 'BAD_KEY' },
      'problem',
      /api_key_env/,
      /refuses the key of BAD_KEY/,
    );
    const path = kind === 'compatible' ? 'warning' : 'problem';
    const nothing = kind === 'compatible' ? /no list of models \(404\)/ : /path of the url is wrong/;
    add(`${kind} path`, { kind, url: `${root}/nowhere` }, path, /url/, nothing);
    const strange = `${folder}/other`;
    add(
      `${kind} ca`,
      { kind, url, ca: strange },
      'problem',
      /url/,
      /certificate.*(?:authority|trusted|self-signed)/,
    );
    add(`${kind} expired`, { kind, url: old }, 'problem', /url/, /has expired/);
    const unresolved = { kind, url: `https://no-such-name.invalid${base}` };
    add(`${kind} name`, unresolved, 'problem', /url/, /does not resolve/);
    const isAzure = kind === 'azure';
    const lacks = isAzure ? /no deployment unknown/ : /list of models has no unknown; it has known/;
    add(`${kind} model`, { kind, url, model: 'unknown' }, isAzure ? 'problem' : 'warning', /model/, lacks);
  }
  for (const [index, upstream] of upstreams.entries()) Object.assign(upstream, { name: `u${index}` });
  const file = `${folder}/outrigger.json`;
  writeFileSync(file, JSON.stringify({ llm: { upstreams } }));
  const args = [main, 'check', '--config', file, '--live', '--output', 'json'];
  const { output } = await runProcess(t, process.execPath, args, {
    env: { GOOD_KEY: KEY, BAD_KEY: 'wrong' },
  });
  t.notMatch(output, KEY);
  const { results } = JSON.parse(output.slice(output.indexOf('{\n'))) as { results: Result[] };
  for (const [index, [name, level, path, message]] of expected.entries()) {
    const prefix = `llm.upstreams[${index}]`;
    const own = results.filter((one) => one.path === prefix || one.path.startsWith(`${prefix}.`));
    const worst = own.find((one) => one.level !== 'ok') ?? own[0];
    t.match(worst, { level, message }, name);
    t.match(worst?.path.slice(prefix.length), path, `${name} names the setting`);
    if (level !== 'ok') t.not(worst?.remedy, '', `${name} says what to do`);
  }
});
