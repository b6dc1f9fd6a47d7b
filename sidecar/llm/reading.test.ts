// What the egress reads: requests, answers, streams of events, and headers that say how long to wait.
import fc from 'fast-check';
import t from 'tap';
import { EventScanner, fieldsOf } from './event-scanner.ts';
import { withTopLevel } from './json-edit.ts';
import { operationOf } from './operations.ts';
import { readFacts } from './request-facts.ts';
import { resetMs, retryAfterMs } from './retry-after.ts';
import { StreamCheck } from './stream-check.ts';

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
  const change = (text: string, key: string, json: string) =>
    withTopLevel(Buffer.from(text), key, json).toString();
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

t.test('what a request may use', async (t) => {
  const facts = (json: object, path = '/chat/completions') =>
    readFacts(operationOf('POST', path), Buffer.from(JSON.stringify(json)));
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
    const broken = readFacts('chat', Buffer.from(body));
    t.notOk(broken.understood, 'it goes on as it is, for the provider to refuse');
    t.equal(broken.mostInputTokens, body.length);
  }
});

t.test('events are found however the bytes are cut, and no byte is lost', async (t) => {
  const line = fc.constantFrom(
    'data: x',
    'data',
    'event: y',
    ': c',
    'id: 1',
    'data: {"a":1}',
    'é𝄞',
    '\uFEFFdata: z',
  );
  const end = fc.constantFrom('\n', '\r\n', '\r');
  const event = fc.tuple(fc.array(line, { minLength: 1, maxLength: 4 }), end);
  fc.assert(
    fc.property(
      fc.array(event, { maxLength: 8 }),
      fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1 }),
      (events, cuts) => {
        const texts = events.map(
          ([lines, lineEnd]) => lines.map((text) => text + lineEnd).join('') + lineEnd,
        );
        const bytes = Buffer.from(texts.join(''));
        const scanner = new EventScanner(10_000);
        const found: string[] = [];
        const fields: unknown[] = [];
        for (let at = 0, i = 0; at < bytes.length; i++) {
          const size = cuts[i % cuts.length]!;
          scanner.push(bytes.subarray(at, at + size), (buffer, from, to) => {
            found.push(buffer.toString('utf8', from, to));
            fields.push(fieldsOf(buffer, from, to));
          });
          at += size;
        }
        found.push(scanner.takeUnfinished().toString());
        const whole = new EventScanner(10_000);
        const wholeFields: unknown[] = [];
        whole.push(bytes, (buffer, from, to) => wholeFields.push(fieldsOf(buffer, from, to)));
        return (
          found.join('') === texts.join('') &&
          fields.length === events.length &&
          JSON.stringify(fields) === JSON.stringify(wholeFields)
        );
      },
    ),
    { numRuns: 500 },
  );
  const scanner = new EventScanner(100);
  t.ok(scanner.push(Buffer.from('data: '), () => {}));
  t.notOk(
    scanner.push(Buffer.alloc(100, 'x'), () => {}),
    'an event without an end is not kept for ever',
  );
});

t.test('the fields of an event', async (t) => {
  const fields = (text: string) => fieldsOf(Buffer.from(text), 0, Buffer.byteLength(text));
  t.strictSame(fields('data: a\ndata:b\ndata\n\n'), { event: '', data: 'a\nb\n' });
  t.strictSame(fields('event: x\nid: 1\ndatax: 1\n\n'), { event: 'x', data: undefined });
  t.strictSame(fields(': comment\n\n'), { event: '', data: undefined });
  t.strictSame(fields(': comment\ndata: 1\n\n'), { event: '', data: '1' });
  t.strictSame(fields('\ndata:  two\n\n'), { event: '', data: ' two' });
});

function follow(operation: 'chat' | 'responses' | 'other', parts: readonly string[], more: object = {}) {
  const options = {
    operation,
    maxEventBytes: 1_000,
    stripUsage: false,
    maxOutputEvents: Number.POSITIVE_INFINITY,
  };
  const check = new StreamCheck({ ...options, ...more });
  let passed = '';
  const forward = (bytes: Buffer): void => {
    passed += bytes.toString();
  };
  let fault: string | undefined;
  for (const part of parts) fault ??= check.push(Buffer.from(part), forward);
  fault ??= check.end(forward);
  return { check, passed, fault };
}

const chunk = (content: string) => `data: ${JSON.stringify({ choices: [{ delta: { content } }] })}\n\n`;

t.test('a stream is whole when its terminal marker has come', async (t) => {
  t.equal(follow('chat', [chunk('a'), 'data: [DONE]\n\n']).fault, undefined);
  t.equal(
    follow('chat', [chunk('a'), 'data: [DONE]']).fault,
    undefined,
    'the last blank line may be missing',
  );
  t.equal(follow('chat', [chunk('a'), 'data: [DONE']).fault, 'stream_cut');
  t.equal(follow('chat', [chunk('a')]).fault, 'stream_cut');
  t.equal(follow('chat', []).fault, 'stream_cut');
  t.equal(
    follow('other', ['data: whatever\n\n']).fault,
    undefined,
    'what is not known to have one needs none',
  );
  const response = (type: string) =>
    `event: ${type}\ndata: ${JSON.stringify({ type, response: { status: 'x', usage: { input_tokens: 2, output_tokens: 3 } } })}\n\n`;
  for (const type of ['response.completed', 'response.incomplete', 'response.failed'])
    t.equal(follow('responses', [response(type)]).fault, undefined, type);
  t.equal(follow('responses', [response('response.created'), 'data: [DONE]']).fault, undefined);
  t.equal(follow('responses', [response('response.created')]).fault, 'stream_cut');
  t.strictSame(follow('responses', [response('response.completed')]).check.facts.usage, {
    inputTokens: 2,
    outputTokens: 3,
  });
});

t.test('only whole events pass, and nothing of or after a malformed one', async (t) => {
  const cut = follow('chat', [chunk('a'), 'data: {"choices":[{"del']);
  t.equal(cut.passed, chunk('a'));
  t.equal(cut.fault, 'stream_cut');
  const malformed = follow('chat', [`${chunk('a')}data: {"x\n\n${chunk('b')}`]);
  t.equal(malformed.passed, chunk('a'));
  t.equal(malformed.fault, 'malformed_answer');
  t.equal(follow('chat', [`data: ${'x'.repeat(2_000)}`]).fault, 'answer_too_large');
});

t.test('comments and pings are no sign of life', async (t) => {
  const { check, passed } = follow('chat', [
    ': a\n\n',
    'event: ping\ndata: {}\n\n',
    'data: {"type":"ping"}\n\n',
    'id: 1\n\n',
  ]);
  t.equal(check.events, 0);
  t.match(passed, /^: a\n\nevent: ping/, 'but they pass');
});

t.test('usage that we asked for is taken out, and tokens are counted where none is told', async (t) => {
  const usage = 'data: {"choices":[],"usage":{"prompt_tokens":4,"completion_tokens":9}}\n\n';
  const parts = [chunk('a') + usage + chunk('b'), 'data: [DONE]\n\n'];
  const stripped = follow('chat', parts, { stripUsage: true });
  t.equal(stripped.passed, `${chunk('a')}${chunk('b')}data: [DONE]\n\n`);
  t.strictSame(stripped.check.facts.usage, { inputTokens: 4, outputTokens: 9 });
  t.equal(follow('chat', parts).passed, parts.join(''));
  t.equal(follow('chat', [chunk('a'), chunk('b')]).check.estimatedOutputTokens, 2, 'at least one an event');
  t.equal(follow('chat', [chunk('x'.repeat(400))]).check.estimatedOutputTokens, 100);
  const bounded = follow('chat', [chunk('a'), chunk('b'), chunk('c')], { maxOutputEvents: 2 });
  t.equal(bounded.fault, 'budget_exhausted', 'a provider that ignores its maximum is stopped');
  t.equal(bounded.passed, chunk('a') + chunk('b'));
});
