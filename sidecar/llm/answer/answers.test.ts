// What the egress reads of answers: streams of events, plain JSON, errors in either, and what an answer is at all.

import t from 'tap';
import fc from '../../../scripts/harness/properties.ts';
import { traitsOf } from '../kinds/operations.ts';
import type { Operation } from '../shared/operation.ts';
import { errorInEvent, errorInsteadOf } from './answer-error.ts';
import { expectationOf, kindOf } from './answer-kind.ts';
import { fieldsOf, LargeEvent } from './event-fields.ts';
import { EventScanner } from './event-scanner.ts';
import { JsonDigest } from './json-digest.ts';
import { StreamCheck } from './stream-check.ts';
import type { EventSink } from './unfinished-event.ts';

function whole(onEvent: EventSink['onEvent']): EventSink {
  return { onEvent, onPart: () => t.fail('no event is large') };
}

/** Reads large events in their parts. */
class Parts implements EventSink {
  text = '';
  readonly fields: unknown[] = [];
  private large: LargeEvent | undefined = undefined;

  onEvent(buffer: Buffer, start: number, end: number): void {
    this.text += buffer.toString('latin1', start, end);
    this.fields.push(fieldsOf(buffer, start, end));
  }

  onPart(buffer: Buffer, start: number, end: number, isLast: boolean): void {
    this.text += buffer.toString('latin1', start, end);
    this.large ??= new LargeEvent(false);
    this.large.push(buffer, start, end);
    if (!isLast) return;
    const { event, data } = this.large.fields();
    this.fields.push({ event, data });
    this.large = undefined;
  }
}

t.test('the scanner finds events however the bytes are cut, and loses no byte', async () => {
  const line = fc.constantFrom(
    'data: x',
    'data',
    'event: y',
    ': c',
    'id: 1',
    'data: {"a":1}',
    'é𝄞',
    '\uFEFFdata: z',
    `data: {"a":"${'x'.repeat(300)}"}`,
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
        const parts = new Parts();
        const inParts = new EventScanner(20);
        for (let at = 0, i = 0; at < bytes.length; i++) {
          const size = cuts[i % cuts.length]!;
          scanner.push(
            bytes.subarray(at, at + size),
            whole((buffer, from, to) => {
              found.push(buffer.toString('utf8', from, to));
              fields.push(fieldsOf(buffer, from, to));
            }),
          );
          inParts.push(bytes.subarray(at, at + size), parts);
          at += size;
        }
        found.push(scanner.takeUnfinished().toString());
        const atOnce = new EventScanner(10_000);
        const wholeFields: unknown[] = [];
        atOnce.push(
          bytes,
          whole((buffer, from, to) => wholeFields.push(fieldsOf(buffer, from, to))),
        );
        parts.text += inParts.takeUnfinished().toString('latin1');
        return (
          found.join('') === texts.join('') &&
          fields.length === events.length &&
          JSON.stringify(fields) === JSON.stringify(wholeFields) &&
          parts.text === bytes.toString('latin1') &&
          JSON.stringify(parts.fields) === JSON.stringify(wholeFields)
        );
      },
    ),
    { numRuns: 500 },
  );
});

t.test('the reader finds the fields of an event', async (t) => {
  const fields = (text: string) => fieldsOf(Buffer.from(text), 0, Buffer.byteLength(text));
  t.strictSame(fields('data: a\ndata:b\ndata\n\n'), { event: '', data: 'a\nb\n' });
  t.strictSame(fields('event: x\nid: 1\ndatax: 1\n\n'), { event: 'x', data: undefined });
  t.strictSame(fields(': comment\n\n'), { event: '', data: undefined });
  t.strictSame(fields(': comment\ndata: 1\n\n'), { event: '', data: '1' });
  t.strictSame(fields('\ndata:  two\n\n'), { event: '', data: ' two' });
  t.strictSame(fields('\uFEFFdata: 1\n\n'), { event: '', data: undefined }, 'a mark within the stream');
  const marked = Buffer.from('\uFEFFdata: 1\n\n');
  t.strictSame(fieldsOf(marked, 0, marked.length, true), { event: '', data: '1' }, 'before the first event');
});

/** By the names of the dialects, an operation of each. */
const DIALECTS = {
  choices: 'chat',
  responses: 'responses',
  messages: 'messages',
  unmarked: 'images',
} as const;

function dialectOf(name: keyof typeof DIALECTS) {
  const operation: Operation = DIALECTS[name];
  return traitsOf(operation).events!;
}

function follow(dialect: keyof typeof DIALECTS, parts: readonly string[], more: object = {}) {
  const options = {
    dialect: dialectOf(dialect),
    choices: 1,
    maxHeldEventBytes: 1_000,
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

t.test('a stream is whole once its last event has come', async (t) => {
  t.equal(follow('choices', [chunk('a'), 'data: [DONE]\n\n']).fault, undefined);
  t.equal(
    follow('choices', [chunk('a'), 'data: [DONE]']).fault,
    undefined,
    'the last blank line may be missing',
  );
  t.equal(follow('choices', [chunk('a'), 'data: [DONE']).fault, 'stream_cut');
  t.equal(follow('choices', [chunk('a')]).fault, 'stream_cut');
  t.equal(follow('choices', []).fault, 'stream_cut');
  t.equal(follow('unmarked', ['data: {"a":1}\n\n']).fault, undefined, 'what has none needs none');
  const response = (type: string) =>
    `event: ${type}\ndata: ${JSON.stringify({ type, response: { status: 'x', usage: { input_tokens: 2, output_tokens: 3 } } })}\n\n`;
  for (const type of ['response.completed', 'response.incomplete', 'response.failed'])
    t.equal(follow('responses', [response(type)]).fault, undefined, type);
  t.equal(follow('responses', [response('response.created'), 'data: [DONE]']).fault, undefined);
  t.equal(follow('responses', [response('response.created')]).fault, 'stream_cut');
  t.match(follow('responses', [response('response.completed')]).check.facts.usage, {
    inputTokens: 2,
    outputTokens: 3,
  });
});

t.test('only whole events pass, and nothing of or after a malformed one', async (t) => {
  const cut = follow('choices', [chunk('a'), 'data: {"choices":[{"del']);
  t.equal(cut.passed, chunk('a'));
  t.equal(cut.fault, 'stream_cut');
  const malformed = follow('choices', [`${chunk('a')}data: {"x\n\n${chunk('b')}`]);
  t.equal(malformed.passed, chunk('a'));
  t.equal(malformed.fault, 'malformed_answer');
});

t.test('comments and pings are no sign of life', async (t) => {
  const { check, passed } = follow('choices', [
    ': a\n\n',
    'event: ping\ndata: {}\n\n',
    'data: {"type":"ping"}\n\n',
    'id: 1\n\n',
  ]);
  t.equal(check.events, 0);
  t.match(passed, /^: a\n\nevent: ping/, 'but they pass');
});

t.test(
  'the check removes usage that we requested, and estimates tokens where a stream sends none',
  async (t) => {
    const usage = 'data: {"choices":[],"usage":{"prompt_tokens":4,"completion_tokens":9}}\n\n';
    const parts = [chunk('a') + usage + chunk('b'), 'data: [DONE]\n\n'];
    const stripped = follow('choices', parts, { stripUsage: true });
    t.equal(stripped.passed, `${chunk('a')}${chunk('b')}data: [DONE]\n\n`);
    t.match(stripped.check.facts.usage, { inputTokens: 4, outputTokens: 9 });
    t.equal(follow('choices', parts).passed, parts.join(''));
    t.equal(
      follow('choices', [chunk('a'), chunk('b')]).check.estimatedOutputTokens,
      2,
      'at least one an event',
    );
    t.equal(follow('choices', [chunk('x'.repeat(400))]).check.estimatedOutputTokens, 100);
    const bounded = follow('choices', [chunk('a'), chunk('b'), chunk('c')], { maxOutputEvents: 2 });
    t.equal(bounded.fault, 'budget_exhausted', 'a provider that ignores its maximum is stopped');
    t.equal(bounded.passed, chunk('a') + chunk('b'));
  },
);

t.test('heartbeats of every kind pass, move no clock and cut nothing', async (t) => {
  const beats = [
    'data:\n\n',
    'data\n\n',
    'data: \n\n',
    'event: heartbeat\ndata: {"t":1}\n\n',
    'event: heartbeat\n\n',
    'event: keepalive\ndata: now\n\n',
    'event: own\ndata: {not json\n\n',
    'data: {"type":"heartbeat"}\n\n',
    'data: {}\n\n',
    'data: 1\n\n',
    'data: ping\n\n',
    ': OPENROUTER PROCESSING\n\n',
    '\n',
    '\r\n',
    'retry: 100\n\n',
  ];
  const idle = follow('choices', beats);
  t.equal(idle.check.signs, 0);
  t.equal(idle.passed, beats.join(''));
  for (const dialect of ['choices', 'responses', 'messages'] as const) {
    const last = {
      choices: 'data: [DONE]\n\n',
      responses: 'event: response.completed\ndata: {"type":"response.completed"}\n\n',
      messages: 'event: message_stop\ndata: {"type":"message_stop"}\n\n',
    }[dialect];
    const parts = beats.filter((beat) => dialect === 'choices' || !beat.includes('own'));
    t.equal(follow(dialect, [...parts, last]).fault, undefined, dialect);
    t.equal(follow(dialect, parts).fault, 'stream_cut', dialect);
  }
});

const finish = (index: number, reason: unknown = 'stop') =>
  `data: ${JSON.stringify({ choices: [{ index, delta: {}, finish_reason: reason }] })}\n\n`;

t.test('a stream is whole when its last choice has finished', async (t) => {
  for (const end of ['data: [DONE] \n\n', 'data:[DONE]\n\n', 'data: [DONE]\r\n\r\n', 'data: [DONE]\r\r'])
    t.equal(follow('choices', [chunk('a'), end]).fault, undefined, JSON.stringify(end));
  t.equal(follow('choices', [chunk('a'), finish(0)]).fault, undefined);
  t.equal(follow('choices', [chunk('a'), finish(0).trimEnd()]).fault, undefined, 'without its blank line');
  for (const none of [null, ''])
    t.equal(follow('choices', [chunk('a'), finish(0, none)]).fault, 'stream_cut', String(none));
  const two = { choices: 2 };
  t.equal(follow('choices', [finish(0)], two).fault, 'stream_cut', 'the second has not begun');
  t.equal(follow('choices', [finish(1), chunk('a')], two).fault, 'stream_cut', 'the first has not finished');
  t.equal(follow('choices', [finish(1), chunk('a'), finish(0)], two).fault, undefined);
  t.equal(follow('choices', [finish(0), finish(0)], two).fault, 'stream_cut', 'one that finishes twice');
  t.equal(follow('choices', [finish(0), 'data: [DONE]\n\n'], two).fault, undefined, 'the marker comes first');
  const usage = 'data: {"choices":[],"usage":{"prompt_tokens":4,"completion_tokens":9}}\n\n';
  const late = follow('choices', [chunk('a'), finish(0), usage]);
  t.match(late.check.facts.usage, { inputTokens: 4, outputTokens: 9 }, 'what follows is read');
});

t.test("a stream of Anthropic's API ends with message_stop, and its usage is read", async (t) => {
  const event = (type: string, more: object) =>
    `event: ${type}\ndata: ${JSON.stringify({ type, ...more })}\n\n`;
  const parts = [
    event('message_start', {
      message: {
        id: 'msg_1',
        model: 'claude',
        usage: { input_tokens: 5, cache_read_input_tokens: 7, output_tokens: 1 },
      },
    }),
    event('ping', {}),
    event('content_block_delta', { index: 0, delta: { type: 'text_delta', text: 'x'.repeat(40) } }),
  ];
  const cut = follow('messages', parts);
  t.equal(cut.fault, 'stream_cut');
  t.equal(cut.check.facts.usage, undefined, 'the prompt alone is no usage');
  t.equal(cut.check.estimatedOutputTokens, 10);
  const stop = event('message_delta', { delta: { stop_reason: 'end_turn' }, usage: { output_tokens: 9 } });
  const done = follow('messages', [...parts, stop, event('message_stop', {})]);
  t.equal(done.fault, undefined);
  t.match(done.check.facts, {
    model: 'claude',
    id: 'msg_1',
    finishReason: 'end_turn',
    usage: { inputTokens: 12, cacheReadTokens: 7, outputTokens: 9 },
    error: undefined,
  });
  const broken = follow('messages', [
    ...parts,
    event('error', { error: { type: 'overloaded_error', message: 'Overloaded' } }),
  ]);
  t.match(broken, {
    fault: undefined,
    check: { facts: { error: { status: 529, code: 'overloaded_error' } } },
  });
});

t.test('a stream that is one JSON array is checked element by element, however it is cut', async (t) => {
  const element = (text: string, finishReason?: string) =>
    JSON.stringify({ candidates: [{ content: { parts: [{ text }] }, index: 0, finishReason }] });
  const picture = 'A'.repeat(3_000);
  const text = `[${element('a ["]}\\\\')}\r\n,\r\n${element(picture)},${element('c', 'STOP')}\n]\n`;
  const usageLess = { dialect: traitsOf('generate').events!, isArray: true };
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 900 }), { minLength: 1, maxLength: 40 }), (sizes) => {
      const parts: string[] = [];
      for (let at = 0, turn = 0; at < text.length; turn++) {
        const size = sizes[turn % sizes.length]!;
        parts.push(text.slice(at, at + size));
        at += size;
      }
      const whole = follow('choices', parts, usageLess);
      const cut = follow('choices', [text.slice(0, text.lastIndexOf('}') - 40)], usageLess);
      const open = follow('choices', [text.slice(0, text.lastIndexOf(']'))], usageLess);
      return (
        whole.fault === undefined &&
        whole.passed === text &&
        whole.check.facts.finishReason === 'STOP' &&
        cut.fault === 'stream_cut' &&
        open.fault === 'stream_cut'
      );
    }),
    { numRuns: 100 },
  );
  t.equal(follow('choices', ['[{"candidates":[}', ']'], usageLess).fault, 'malformed_answer');
});

t.test('errors in answers stand for a status', async (t) => {
  const openai = (type: string, code: string | null) => ({ error: { message: 'm', type, code } });
  for (const [answer, status, outOfCredit] of [
    [openai('rate_limit_error', 'rate_limit_exceeded'), 429],
    [openai('tokens', 'rate_limit_exceeded'), 429],
    [openai('insufficient_quota', 'insufficient_quota'), 402, 'insufficient_quota'],
    [openai('invalid_request_error', null), 400],
    [openai('invalid_request_error', 'context_length_exceeded'), 400],
    [openai('invalid_request_error', 'invalid_api_key'), 401],
    [openai('invalid_request_error', 'model_not_found'), 404],
    [openai('server_error', null), 500],
    [{ error: { message: 'what nobody names' } }, 500],
    [{ error: 'text' }, 500],
    [{ error: { code: 429, message: 'm', status: 'RESOURCE_EXHAUSTED' } }, 429],
    [[{ error: { code: 503, status: 'UNAVAILABLE' } }], 503],
    [{ error: { code: '402', message: 'm' } }, 402, 'payment_required'],
    [{ object: 'error', message: 'm', type: 'BadRequestError', code: 400 }, 400],
    [{ type: 'error', error: { type: 'overloaded_error' } }, 529],
    [{ object: 'response', status: 'failed', error: { code: 'rate_limit_exceeded' }, output: [] }, 429],
    [{ object: 'response', status: 'failed', error: null, output: [] }, 500],
  ] as const)
    t.match(errorInsteadOf(answer), { status, outOfCredit }, JSON.stringify(answer));
  for (const answer of [
    { error: null, choices: [] },
    { error: {}, object: 'list' },
    { error: '', data: [] },
    { error: openai('x', null).error, choices: [{}] },
    { object: 'list', data: [{ id: 'm' }], error: 'x' },
    { object: 'response', status: 'completed', error: null, output: [{}] },
    [],
    [{ error: { code: 500 } }, { a: 1 }],
    'error',
    null,
  ])
    t.equal(errorInsteadOf(answer), undefined, JSON.stringify(answer));
  t.match(
    errorInEvent('response.failed', { response: { status: 'failed', error: { code: 'server_error' } } }),
    {
      status: 500,
      code: 'server_error',
    },
  );
  t.match(errorInEvent('error', { type: 'error', code: 'rate_limit_exceeded', message: 'm' }), {
    status: 429,
  });
  t.match(errorInEvent('error', undefined), { status: 500, code: '' });
  t.match(errorInEvent(undefined, { error: { code: 'sk-x y' } }), { code: '' }, 'no sentence is a word');
  t.equal(errorInEvent('response.completed', { response: { status: 'completed', error: null } }), undefined);
  t.equal(errorInEvent(undefined, { choices: [{ delta: {} }], error: null }), undefined);
  const late = follow('choices', [chunk('a'), `data: ${JSON.stringify(openai('server_error', null))}\n\n`]);
  t.match(late, { fault: undefined, check: { beginsWithError: false, facts: { error: { status: 500 } } } });
  const first = follow('choices', [': x\n\n', 'event: error\ndata: overloaded\n\n', chunk('a')]);
  t.match(first, { check: { beginsWithError: true, facts: { error: { status: 500 } } } });
});

t.test(
  'a JSON text is read in passing, whatever its size, and with its long strings shortened',
  async (t) => {
    const digestOf = (text: string, size: number) => {
      const bytes = Buffer.from(text);
      const digest = new JsonDigest();
      for (let at = 0; at < bytes.length; at += size) digest.push(bytes.subarray(at, at + size));
      return digest.text();
    };
    fc.assert(
      fc.property(fc.jsonValue(), fc.integer({ min: 1, max: 9 }), (value, size) => {
        const text = JSON.stringify(value);
        return digestOf(text, size) === text;
      }),
    );
    const long = fc.array(fc.constantFrom('a', 'é', '𝄞', '"', '\\', '\n', '\u0001', '{'), {
      minLength: 900,
      maxLength: 3_000,
    });
    fc.assert(
      fc.property(long, fc.integer({ min: 1, max: 700 }), (letters, size) => {
        const string = letters.join('');
        const text = digestOf(JSON.stringify({ a: string, usage: [1, string, '\ud800'] }), size);
        const { a, usage } = JSON.parse(text!) as { a: string; usage: unknown[] };
        // The last character may be cut in two.
        return string.startsWith(a.replace(/\uFFFD+$/, '')) && usage[0] === 1 && text!.length < 3_000;
      }),
      { numRuns: 200 },
    );
    t.equal(digestOf(JSON.stringify(Array.from({ length: 200_000 }, (_, at) => at)), 65_536), undefined);
  },
);

t.test('an event above the bound passes in parts, and is still read', async (t) => {
  const picture = 'A'.repeat(5_000);
  const last = `data: ${JSON.stringify({ choices: [{ index: 0, delta: { content: picture }, finish_reason: 'stop' }], usage: { prompt_tokens: 1, completion_tokens: 2 } })}\r\n\r\n`;
  const parts = [
    chunk('a') + last.slice(0, 10),
    last.slice(10, 2_000),
    last.slice(2_000, -1),
    last.slice(-1),
  ];
  const { check, passed, fault } = follow('choices', parts);
  t.equal(fault, undefined);
  t.equal(passed, chunk('a') + last);
  t.match(check.facts, { finishReason: 'stop', usage: { inputTokens: 1, outputTokens: 2 } });
  t.equal(check.events, 2);
  t.ok(check.signs > 2, 'its parts are signs of life');
  const cut = follow('choices', parts.slice(0, -2));
  t.equal(cut.fault, 'stream_cut');
  t.equal(cut.passed, parts.slice(0, -2).join(''), 'what was passed on stays');
  t.equal(follow('choices', [`data: {"${picture}\n\n`]).fault, 'malformed_answer');
  t.equal(follow('responses', [`event: response.completed\ndata: {"x":"${picture}"}\n\n`]).fault, undefined);
  t.equal(follow('choices', [`: ${picture}\n\n`, finish(0)]).fault, undefined, 'a comment');
});

t.test('the head and the first bytes decide the kind of an answer', async (t) => {
  for (const [head, kind] of [
    ['{"a":1}', 'json'],
    [' \r\n\t[', 'json'],
    ['\uFEFF{', 'json'],
    ['\uFEFF \n', undefined],
    ['', undefined],
    ['\n', undefined],
    ['data: {', 'events'],
    ['data\n', 'events'],
    ['\uFEFFdata:', 'events'],
    [': comment', 'events'],
    ['event:', 'events'],
    ['id: 1', 'events'],
    ['retry: 1', 'events'],
    ['\n\ndata: x', 'events'],
    ['d', undefined],
    ['data', undefined],
    ['datas: x', 'unread'],
    ['date: x', 'unread'],
    ['Internal error', 'unread'],
    ['<html>', 'unread'],
    ['"text"', 'unread'],
    ['RIFF\0', 'unread'],
  ] as const)
    t.equal(kindOf(Buffer.from(head)), kind, JSON.stringify(head));
  t.equal(kindOf(Buffer.from([0xef])), undefined, 'half a mark');
  t.equal(kindOf(Buffer.from([0xef, 0xbf])), 'unread');
  t.equal(kindOf(Buffer.from([0x1f, 0x8b])), 'unread', 'gzip');
  const expects = (headers: Record<string, string>, stream = false, status = 200, method = 'POST') => {
    const { isUnread, isEvents } = expectationOf(method, { operation: 'chat', stream }, status, headers);
    return isUnread ? 'unread' : isEvents ? 'events' : 'plain';
  };
  const typed = (type: string) => ({ 'content-type': type });
  t.equal(expects({}), 'plain');
  t.equal(expects({}, true), 'events');
  t.equal(expects(typed('text/plain'), true), 'events');
  t.equal(expects(typed('application/json; charset=UTF-8'), true), 'plain');
  t.equal(expects(typed('Text/Event-Stream; charset=utf-8')), 'events');
  for (const type of [
    'application/x-ndjson',
    'application/jsonl; charset=utf-8',
    'application/json; charset=utf-16',
  ])
    t.equal(expects(typed(type), true), 'unread', type);
  for (const encoding of ['gzip', 'br', 'zstd', 'GZIP, identity'])
    t.equal(expects({ 'content-encoding': encoding }), 'unread', encoding);
  t.equal(expects({ 'content-encoding': 'Identity' }), 'plain');
  for (const status of [204, 205, 206, 302]) t.equal(expects({}, false, status), 'unread', String(status));
  t.equal(expects({}, false, 202), 'plain');
  t.equal(expects({}, false, 200, 'HEAD'), 'unread');
  const files = { operation: 'files', stream: false } as const;
  t.ok(expectationOf('GET', files, 200, typed('application/json')).isUnread);
  const list = { operation: 'models', stream: false } as const;
  t.notOk(expectationOf('GET', list, 200, typed('text/event-stream')).isEvents, 'no stream that is known');
});
