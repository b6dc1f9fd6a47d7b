// What the egress reads of requests, and of headers that say how long to wait.
import fc from 'fast-check';
import t from 'tap';
import { bodyOf } from './body.ts';
import { withTopLevel } from './json-edit.ts';
import { JsonScan } from './json-scan.ts';
import { type Operation, operationOf } from './operations.ts';
import { type RequestFacts, readFacts, requestScan } from './request-facts.ts';
import { resetMs, retryAfterMs } from './retry-after.ts';

const NOW_MS = Date.parse('Mon, 23 Nov 2026 05:00:00 GMT');

t.test('how long a provider asks to be left alone', async (t) => {
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
    t.equal(retryAfterMs(429, headers, NOW_MS), ms, JSON.stringify(headers));
  }
  const exhausted = { 'x-ratelimit-remaining-tokens': '0', 'x-ratelimit-reset-tokens': '6m0s' };
  t.equal(retryAfterMs(500, exhausted, NOW_MS), undefined, 'a limit that is used up is not why it failed');
  t.equal(retryAfterMs(500, { ...exhausted, 'retry-after-ms': '7' }, NOW_MS), 7, 'what is asked for is');
  t.equal(resetMs('120ms', NOW_MS), 120);
  t.equal(resetMs('1h', NOW_MS), 3_600_000);
  t.equal(resetMs('7', NOW_MS), 7_000);
  t.equal(resetMs(String(NOW_MS / 1000 + 9), NOW_MS), 9_000, 'seconds since 1970');
  t.equal(resetMs(String(NOW_MS + 9), NOW_MS), 9, 'milliseconds since 1970');
  for (const text of ['', 'x', '1d', '1s1', '1 s', '9'.repeat(40)])
    t.equal(resetMs(text, NOW_MS), undefined, text);
});

t.test('a value of a JSON object is changed in its place, and nothing else', async (t) => {
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

t.test('which operation a request is', async (t) => {
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
    ['POST', '/messages/count_tokens', 'other'],
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
    t.equal(operationOf(method, path), operation, `${method} ${path}`);
});

function factsOf(operation: Operation, text: string): RequestFacts {
  const body = bodyOf(Buffer.from(text));
  const scan = requestScan(operation);
  for (const part of body.parts) scan?.push(part);
  return readFacts(operation, body, scan);
}

t.test('what a request may use', async (t) => {
  const facts = (json: object, path = '/chat/completions') =>
    factsOf(operationOf('POST', path), JSON.stringify(json));
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
  t.ok(
    text.mostInputTokens > 4_000 && text.estimatedInputTokens > 1_000 && text.estimatedInputTokens < 1_100,
  );
  const picture = { type: 'image_url', image_url: { url: `data:image/png;base64,${'A'.repeat(1_000_000)}` } };
  const withPicture = facts({
    messages: [{ role: 'user', content: [{ type: 'text', text: 'x' }, picture] }],
  });
  t.ok(withPicture.mostInputTokens < 3_000, 'a picture is not counted by its bytes');
  for (const body of ['', 'x', '[]', '{"a":', 'null']) {
    const broken = factsOf('chat', body);
    t.notOk(broken.understood, 'it goes on as it is, for the provider to refuse');
    t.equal(broken.mostInputTokens, body.length);
  }
});
