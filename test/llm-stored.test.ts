// What an upstream stores, its files, batches and cached prompts, is asked for where it is: never at another upstream, and not at all
// where nobody knows the place.
import t, { type Test } from 'tap';
import { startEgress } from '../scripts/harness/llm/egress-listener.ts';
import { answerWhole, type Script, sendError, sendJson } from '../scripts/harness/llm/provider.ts';
import { chat, send } from './llm/send.ts';
import { providerFor } from './llm/set-up.ts';

const provider = await providerFor(t);

async function start(t: Test, upstreams: readonly object[]) {
  const egress = await startEgress({ upstreams, retry: { backoff: { base: '1ms', max: '2ms' } } });
  t.teardown(() => egress.close());
  return egress.baseUrl.replace(/\/v1$/, '');
}

t.test('files and batches are asked for at the upstream that has them', async (t) => {
  let isDown = true;
  const first: Script = (request, response) =>
    isDown ? sendError(response, 503) : answerWhole(request, response);
  const second: Script = (request, response) => {
    const { path, method } = request;
    if (path === '/v1/files' && method === 'POST')
      sendJson(response, 200, { id: 'file-abc', object: 'file' });
    else if (path === '/v1/batches') sendJson(response, 200, { id: 'batch_1', output_file_id: 'file-out' });
    else if (path.startsWith('/v1/chat')) answerWhole(request, response);
    else sendJson(response, 200, { id: path });
  };
  const root = await start(t, [
    { name: 'first', url: provider.script('st-first', first) },
    { name: 'second', url: provider.script('st-second', second) },
  ]);
  const made = await send(root, '/v1/files', 'the bytes of a file', { 'accept-encoding': 'gzip' }).answer;
  t.equal(made.headers['outrigger-upstream'], 'second');
  isDown = false;
  const asksSecond = async (path: string, body?: string) => {
    const { status, headers } = await send(root, path, body).answer;
    t.strictSame([status, headers['outrigger-upstream']], [200, 'second'], path);
  };
  await asksSecond('/v1/files/file-abc');
  await asksSecond('/v1/batches', JSON.stringify({ input_file_id: 'file-abc', endpoint: '/v1/responses' }));
  await asksSecond('/v1/batches/batch_1');
  await asksSecond('/v1/files/file-out/content');
  const file = [{ type: 'file', file: { file_id: 'file-abc' } }];
  await asksSecond('/v1/chat/completions', chat({ messages: [{ role: 'user', content: file }] }));
  // A text that says the same names nothing.
  const text = JSON.stringify({ file_id: 'file-abc' });
  const said = chat({ messages: [{ role: 'user', content: text }] });
  t.equal((await send(root, '/v1/chat/completions', said).answer).headers['outrigger-upstream'], 'first');

  const before = provider.requests('st-first').length;
  provider.script('st-second', (_request, response) => sendError(response, 503));
  t.equal((await send(root, '/v1/files/file-abc', undefined).answer).status, 503, 'it goes nowhere else');
  const unknown = await send(root, '/v1/files/file-other', undefined).answer;
  t.equal(unknown.status, 404);
  t.match(unknown.body.toString(), /not known which upstream stores file-other/);
  t.equal(provider.requests('st-first').length, before, 'the wrong upstream was not asked');
});

t.test('a cached prompt of Gemini, and one upstream alone', async (t) => {
  const first: Script = (_request, response) => sendError(response, 503);
  const second: Script = (request, response) =>
    request.path.includes('cachedContents')
      ? sendJson(response, 200, { name: 'cachedContents/c1', model: 'models/m' })
      : sendJson(response, 200, {
          candidates: [{ content: { parts: [{ text: 'x' }] }, finishReason: 'STOP' }],
        });
  const at = (name: string, script: Script) => provider.script(name, script).replace('/v1', '/v1beta');
  const root = await start(t, [
    { name: 'first', kind: 'gemini', url: at('sg-first', first) },
    { name: 'second', kind: 'gemini', url: at('sg-second', second) },
  ]);
  const headers = { 'x-goog-api-key': 'k' };
  const made = await send(root, '/v1beta/cachedContents', '{"contents":[]}', headers).answer;
  t.equal(made.status, 200);
  const asked = provider.requests('sg-first').length;
  const body = JSON.stringify({ contents: [], cachedContent: 'cachedContents/c1' });
  for (const [path, sent] of [
    ['/v1beta/models/m:generateContent', body],
    ['/v1beta/cachedContents/c1', undefined],
  ] as const)
    t.equal((await send(root, path, sent, headers).answer).headers['outrigger-upstream'], 'second', path);
  t.equal(provider.requests('sg-first').length, asked);

  const only = await start(t, [{ name: 'only', url: provider.script('st-only', answerWhole) }]);
  t.equal((await send(only, '/v1/files/file-unknown', undefined).answer).status, 200, 'it can only be there');
});
