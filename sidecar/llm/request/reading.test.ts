// What the egress reads of requests, and of headers that say how long to wait.

import t from 'tap';
import fc from '../../../scripts/harness/properties.ts';
import { askedOf } from '../kinds/asked.ts';
import { ownApis, providerKind } from '../kinds/kinds.ts';
import { OPENAI_QUOTAS } from '../kinds/openai.ts';
import { operationOf, spendsUncounted } from '../kinds/operations.ts';
import { resetMs, retryAfterMs } from '../limits/retry-after.ts';
import { bodyOf } from '../shared/body.ts';
import type { ApiName, Operation } from '../shared/operation.ts';
import { withTopLevel } from './json-edit.ts';
import { JsonScan } from './json-scan.ts';
import { type RequestFacts, readRequestFacts, requestScan } from './request-facts.ts';
import { type Spending, spendingOf } from './spending.ts';

const NOW_MS = Date.parse('Mon, 23 Nov 2026 05:00:00 GMT');

t.test("the headers of an answer say how long the provider's clients should wait", async (t) => {
  for (const [headers, ms] of [
    [{}, undefined],
    [{ 'retry-after': '2' }, 2_000],
    [{ 'retry-after': '0.5' }, 500],
    [{ 'retry-after': 'Mon, 23 Nov 2026 05:00:03 GMT' }, 3_000],
    [{ 'retry-after': 'Mon, 23 Nov 2026 04:00:00 GMT' }, 0],
    [{ 'retry-after': 'Monday, 23-Nov-26 05:00:03 GMT' }, 3_000],
    [{ 'retry-after': 'Mon Nov 23 05:00:03 2026' }, 3_000],
    // A provider whose clock is an hour ahead.
    [{ 'retry-after': 'Mon, 23 Nov 2026 06:00:03 GMT', date: 'Mon, 23 Nov 2026 06:00:00 GMT' }, 3_000],
    [{ 'retry-after': 'soon' }, undefined],
    [{ 'retry-after': '-1' }, undefined],
    [{ 'retry-after-ms': '20', 'retry-after': '2' }, 20],
    [{ 'retry-after-ms': 'x', 'retry-after': '2' }, 2_000],
    [{ 'x-ratelimit-reset-requests': '1m2.5s' }, 62_500],
    [{ 'x-ratelimit-reset-requests': '1s', 'x-ratelimit-reset-tokens': '6m0s' }, 360_000],
    [
      {
        'x-ratelimit-remaining-requests': '0',
        'x-ratelimit-reset-requests': '1s',
        'x-ratelimit-remaining-tokens': '99',
        'x-ratelimit-reset-tokens': '6m0s',
      },
      1_000,
    ],
  ] as const) {
    t.equal(retryAfterMs(OPENAI_QUOTAS, 429, headers, NOW_MS), ms, JSON.stringify(headers));
  }
  const exhausted = { 'x-ratelimit-remaining-tokens': '0', 'x-ratelimit-reset-tokens': '6m0s' };
  t.equal(
    retryAfterMs(OPENAI_QUOTAS, 500, exhausted, NOW_MS),
    undefined,
    'a limit that is used up is not why it failed',
  );
  t.equal(
    retryAfterMs(OPENAI_QUOTAS, 500, { ...exhausted, 'retry-after-ms': '7' }, NOW_MS),
    7,
    'what is asked for is',
  );
  t.equal(resetMs('120ms', NOW_MS), 120);
  t.equal(resetMs('1h', NOW_MS), 3_600_000);
  t.equal(resetMs('7', NOW_MS), 7_000);
  t.equal(resetMs(String(NOW_MS / 1000 + 9), NOW_MS), 9_000, 'seconds since 1970');
  t.equal(resetMs(String(NOW_MS + 9), NOW_MS), 9, 'milliseconds since 1970');
  for (const text of ['', 'x', '1d', '1s1', '1 s', '9'.repeat(40)])
    t.equal(resetMs(text, NOW_MS), undefined, text);
});

t.test('the edit changes a value in its place, and no other byte', async (t) => {
  const change = (text: string, key: string, json: string) => {
    const scan = new JsonScan(new Set([key]));
    scan.push(Buffer.from(text));
    const { parts } = withTopLevel(bodyOf(Buffer.from(text)), scan, new Map([[key, json]]));
    return Buffer.concat(parts).toString();
  };
  t.equal(
    change('{"a":1, "model" : "x" , "b":{"model":2}}', 'model', '"y"'),
    '{"a":1, "model" : "y" , "b":{"model":2}}',
  );
  t.equal(change('{"m\\u006fdel":[1,{"x":"}"}]}', 'model', '3'), '{"m\\u006fdel":3}');
  t.equal(change('{"model":1,"model":2}', 'model', '0'), '{"model":0,"model":0}');
  t.equal(change(' { }', 'n', '1'), ' {"n":1 }');
  t.equal(change('{"a":"model"}', 'model', '1'), '{"model":1,"a":"model"}');
  fc.assert(
    fc.property(
      fc.dictionary(fc.oneof(fc.constant('model'), fc.string()), fc.jsonValue()),
      fc.oneof(fc.constant('model'), fc.string()),
      fc.jsonValue(),
      fc.constantFrom(undefined, 1, '\t'),
      (object, key, value, space) => {
        const text = JSON.stringify(object, null, space);
        const changed = JSON.parse(change(text, key, JSON.stringify(value)));
        // JSON has no -0.
        const expected = JSON.parse(JSON.stringify({ ...object, [key]: value }));
        return key === '__proto__' || JSON.stringify(sorted(changed)) === JSON.stringify(sorted(expected));
      },
    ),
  );
});

function sorted(object: Record<string, unknown>) {
  return Object.entries(object).sort(([a], [b]) => (a < b ? -1 : 1));
}

t.test('method and path name the operation of a request', async (t) => {
  for (const [method, path, operation] of [
    ['POST', '/chat/completions', 'chat'],
    ['POST', '/chat%2Fcompletions', 'chat'],
    ['POST', '/chat/completions/', 'chat'],
    ['GET', '/chat/completions', 'other'],
    ['GET', '/chat/completions/x', 'other'],
    ['POST', '/completions', 'completions'],
    ['POST', '/responses', 'responses'],
    ['POST', '/responses/x/cancel', 'other'],
    ['POST', '/messages', 'messages'],
    ['POST', '/messages/count_tokens', 'count_tokens'],
    ['POST', '/threads/x/messages', 'other'],
    ['POST', '/embeddings', 'embeddings'],
    ['POST', '/images/generations', 'images'],
    ['POST', '/images/edits', 'other'],
    ['GET', '/models', 'models'],
    ['GET', '/models/org%2Fname', 'models'],
    ['GET', '/modelsx', 'other'],
    ['DELETE', '/models/x', 'other'],
    ['GET', '/files/x/content', 'files'],
    ['POST', '/audio/transcriptions', 'audio'],
    ['POST', '/batches', 'batches'],
    ['GET', '/realtime', 'realtime'],
    ['GET', '/', 'other'],
    ['POST', '/constructor', 'other'],
  ] as const)
    t.equal(operationOf(method, path, apiAt(path)), operation, `${method} ${path}`);
});

t.test('a path has the operation that the most lenient server finds', async (t) => {
  for (const path of [
    '//chat//completions',
    '/chat/completions//',
    '/./chat/./completions',
    '/%63hat/completions',
    '/%252563hat/completions',
    '/CHAT/Completions',
    '/chat\\completions',
    '/chat;x=1/completions;y',
    '/chat/completions%20',
    '/chat/completions%3Fx=1',
    '/chat/completions%00',
  ])
    t.equal(operationOf('POST', path, apiAt(path)), 'chat', path);
  for (const [method, path, spends] of [
    ['POST', '/chat/completions', false],
    ['POST', '/chat/completions/chatcmpl-1', false],
    ['POST', '/chat/completions/x', true],
    ['PUT', '/chat/completions', true],
    ['GET', '/chat/completions/x', false],
    ['DELETE', '/responses/x', false],
    ['POST', '/responses/x/cancel', false],
    ['POST', '/responses/input_tokens', false],
    ['POST', '/responses/compact', true],
    ['POST', '/Engines/x/%65mbeddings', true],
    ['POST', '/messages/batches', true],
    ['POST', '/messages/count_tokens', false],
    ['POST', '/threads/runs', true],
    ['POST', '/threads/t/messages', false],
    ['POST', '/realtime/client_secrets', true],
    ['POST', '/files', false],
    ['POST', '/audio/speech', false],
    ['POST', '/images/generations', false],
    ['POST', '/moderations', false],
  ] as const)
    t.equal(spendsUncounted(method, path, apiAt(path)), spends, `${method} ${path}`);
});

/** The API of a request without a header that tells it. */
function apiAt(path: string): ApiName {
  return askedOf(`/v1${path}`, {})!.api;
}

function spendingFor(operation: Operation, text: string, size = text.length): Spending | { fault: string } {
  const body = bodyOf(Buffer.from(text));
  const scan = requestScan(operation, true);
  for (let at = 0; at < body.bytes; at += size) scan?.push(body.parts[0]!.subarray(at, at + size));
  return spendingOf(operation, body, scan);
}

t.test('a budget counts the same, however the request is cut', async (t) => {
  const data = 'A'.repeat(500);
  const picture = `{"type":"image_url","image_url":{"url":"data:image/png;base64,${data}"}}`;
  const photo = `{"source":{"data":"${data}","type":"base64"},"type":"image"}`;
  const file = `{"type":"file","file":{"file_data":"${data}"}}`;
  const text = `{"messages":[${picture},${photo},${file}],"n":2,"best_of":"3","max_tokens":7,"max_tokens":5}`;
  const length = `data:image/png;base64,${data}`.length + data.length;
  for (const size of [1, 2, 3, 5, 7, 16, 100, 5_000])
    t.strictSame(
      spendingFor('chat', text, size),
      { inputTokens: text.length - length + 6_000, choices: 3, outputTokens: 7, unbounded: [] },
      `${size} bytes at a time`,
    );
  const of = (json: string, operation: Operation = 'chat') => spendingFor(operation, json);
  t.match(of('{"max_tokens":-1,"max_completion_tokens":9}'), { outputTokens: 9, unbounded: ['max_tokens'] });
  t.match(of('{"max_tokens":null}'), { outputTokens: 0, unbounded: [] });
  t.match(of('{"max_tokens":4,"max_tokens":null}'), { outputTokens: 4, unbounded: ['max_tokens'] });
  t.match(of('{"max_tokens":4.5}'), { outputTokens: 5 });
  t.match(of('{"prompt":["a",["b"],{}],"n":2}', 'completions'), { choices: 6 });
  t.match(of('{"prompt":[1,2,3]}', 'completions'), { choices: 1 });
  t.match(of('{"prompt":"[]"}', 'completions'), { choices: 1 });
  t.match(of('{"prompt":["a","b"]}'), { choices: 1 }, 'a chat has no prompts');
  t.match(of(''), { inputTokens: 0 }, 'an empty body asks for nothing');
  for (const [json, fault] of [
    ['{"N":1}', /"N"/],
    ['{"max_token\\u0073":1,"MAX_tokens":1}', /"MAX_tokens"/],
    [`{"${'x'.repeat(300)}":1}`, /more than 256 bytes/],
    ['{"n":"1e"}', /"n"/],
    ['{"max_tokens":{}}', /"max_tokens"/],
    ['{"a":undefined}', /RFC 8259/],
    ['[]', /RFC 8259/],
    [`{"messages":[{"type":"input_file","file_url":"https://x"}]}`, /names a file/],
    [`{"messages":[{"type":"document","source":{"type":"file","FILE_ID":"x"}}]}`, /names a file/],
  ] as const)
    t.match(of(json), { fault }, json.slice(0, 40));
  t.match(of('{"messages":[{"type":"input_image","file_id":"x"}]}'), { choices: 1 }, 'a picture is bounded');
  t.match(of('{"messages":[{"type":"tool_use","input":{"file_id":"x"}}]}'), { choices: 1 });
});

function factsOf(operation: Operation, text: string): RequestFacts {
  const body = bodyOf(Buffer.from(text));
  const scan = requestScan(operation);
  for (const part of body.parts) scan?.push(part);
  return readRequestFacts(operation, body, scan);
}

t.test('the greatest reading of a request bounds what it may use', async (t) => {
  const facts = (json: object, path = '/chat/completions') =>
    factsOf(operationOf('POST', path, apiAt(path)), JSON.stringify(json));
  t.match(facts({ model: 'm', stream: true, max_tokens: 9, temperature: 0.5 }), {
    operation: 'chat',
    model: 'm',
    stream: true,
    maxOutputTokens: 9,
    temperature: 0.5,
  });
  t.equal(facts({ max_completion_tokens: 5, max_tokens: 9, n: 3 }).maxOutputTokens, 15, 'for each choice');
  t.equal(facts({ max_output_tokens: 7 }, '/responses').maxOutputTokens, 7);
  t.equal(facts({ max_tokens: -7 }).maxOutputTokens, 0);
  t.equal(facts({ max_tokens: 5 }, '/messages').maxOutputTokens, 5);
  const text = facts({ messages: [{ role: 'user', content: 'x'.repeat(4_000) }] });
  t.ok(text.estimatedInputTokens > 1_000 && text.estimatedInputTokens < 1_100);
  const picture = { type: 'image_url', image_url: { url: `data:image/png;base64,${'A'.repeat(1_000_000)}` } };
  const withPicture = facts({
    messages: [{ role: 'user', content: [{ type: 'text', text: 'x' }, picture] }],
  });
  t.ok(withPicture.estimatedInputTokens < 3_000, 'a picture is not counted by its bytes');
  for (const body of ['', 'x', '[]', '{"a":', 'null']) {
    const broken = factsOf('chat', body);
    t.notOk(broken.understood, 'it goes on as it is, for the provider to refuse');
    t.equal(broken.estimatedInputTokens, Math.ceil(body.length / 4));
  }
});

t.test(
  'an upstream has the path of its kind, and an older configuration keeps the one that it had',
  async (t) => {
    const openai = { api: 'openai', base: '/v1', path: '/chat/completions?x=1', model: 'm' } as const;
    const messages = { api: 'anthropic', base: '/v1', path: '/messages', model: 'm' } as const;
    const generate = {
      api: 'gemini',
      base: '/v1beta',
      path: '/models/g:generateContent',
      model: 'g',
    } as const;
    const google = 'https://generativelanguage.googleapis.com';
    for (const [url, asked, kind, path] of [
      ['https://api.openai.com/v1', openai, 'openai', '/v1/chat/completions?x=1'],
      ['https://api.anthropic.com', messages, 'anthropic', '/v1/messages'],
      ['https://api.anthropic.com/v1/', messages, 'anthropic', '/v1/messages'],
      ['https://api.anthropic.com/v1', openai, 'anthropic', '/v1/chat/completions?x=1'],
      [google, generate, 'gemini', '/v1beta/models/g:generateContent'],
      [`${google}/v1beta`, generate, 'gemini', '/v1beta/models/g:generateContent'],
      [`${google}/v1beta/openai/`, openai, 'compatible', '/v1beta/openai/chat/completions?x=1'],
      ['https://a.openai.azure.com', openai, 'azure', '/openai/v1/chat/completions?x=1'],
      ['https://a.openai.azure.com/openai/v1/', openai, 'azure', '/openai/v1/chat/completions?x=1'],
      [
        'https://a.openai.azure.com/openai/deployments/d',
        openai,
        'azure',
        '/openai/deployments/d/chat/completions?x=1',
      ],
      ['https://a.services.ai.azure.com/models', openai, 'azure', '/models/chat/completions?x=1'],
      ['http://vllm:8000/v1', openai, 'compatible', '/v1/chat/completions?x=1'],
    ] as const) {
      const parsed = new URL(url);
      const found = providerKind(undefined, parsed);
      t.equal(found.name, kind, url);
      t.equal(found.pathOf(parsed.pathname.replace(/\/$/, ''), asked, ''), path, url);
      t.ok(ownApis(found, false).has('openai'), "it stays in line for OpenAI's clients");
    }
  },
);
