// What counts as an answer of each operation: what the journal may give to another run.
import t from 'tap';
import type { Operation } from '../shared/operation.ts';
import { isRealAnswer } from './real-answer.ts';

const json = (operation: Operation, value: unknown): boolean =>
  isRealAnswer(operation, Buffer.from(JSON.stringify(value)));
const events = (operation: Operation, ...values: object[]): boolean =>
  isRealAnswer(
    operation,
    Buffer.from(
      `: begins\r\n\r\n${values.map((value) => `data: ${JSON.stringify(value)}\n\n`).join('')}data: [DONE]`,
    ),
  );

const REAL: readonly (readonly [Operation, object])[] = [
  ['chat', { choices: [{ message: { role: 'assistant', content: 'yes' } }] }],
  ['chat', { choices: [{ message: { content: null, tool_calls: [{ id: 'a' }] } }] }],
  ['chat', { choices: [{ message: { content: null, refusal: 'no' } }] }],
  ['chat', { choices: [{ message: { content: '' }, finish_reason: 'content_filter' }] }],
  ['completions', { choices: [{ text: 'yes' }] }],
  ['responses', { status: 'completed', output: [{ type: 'message' }] }],
  ['responses', { status: 'incomplete', id: 'resp_1', output: [] }],
  ['responses', { status: 'queued', id: 'resp_1', output: [] }],
  ['messages', { type: 'message', content: [{ type: 'text', text: 'yes' }] }],
  ['messages', { type: 'message', content: [], stop_reason: 'end_turn' }],
  ['generate', { candidates: [{ content: { parts: [] } }] }],
  ['generate', { promptFeedback: { blockReason: 'SAFETY' } }],
  ['embeddings', { data: [{ embedding: [1] }] }],
  ['images', { data: [{ url: 'http://x' }] }],
  ['embed', { embedding: { values: [1] } }],
  ['embed', { embeddings: [{ values: [1] }] }],
  ['count_tokens', { input_tokens: 0 }],
  ['count_tokens', { totalTokens: 7 }],
];
const NONE: readonly (readonly [Operation, object])[] = [
  ['chat', { id: 'x', usage: { prompt_tokens: 1 } }],
  ['chat', { choices: [] }],
  ['chat', { choices: [null, {}, { message: null }, { message: { role: 'assistant', content: null } }] }],
  ['chat', { choices: 'yes' }],
  ['responses', { status: 'completed', output: [] }],
  ['messages', { type: 'message', content: [] }],
  ['generate', { candidates: [] }],
  ['embeddings', { data: [] }],
  ['images', { data: [] }],
  ['embed', { embedding: null }],
  ['count_tokens', {}],
  ['audio', { text: 'yes' }],
];

t.test('a plain answer is real when it holds what its operation is asked for', async (t) => {
  for (const [operation, value] of REAL) t.ok(json(operation, value), JSON.stringify([operation, value]));
  for (const [operation, value] of NONE) t.notOk(json(operation, value), JSON.stringify([operation, value]));
  for (const [operation] of REAL) {
    t.notOk(json(operation, {}), operation);
    t.notOk(json(operation, []), operation);
    t.notOk(isRealAnswer(operation, Buffer.from('{"choices":[{"text":"half')), operation);
    t.notOk(isRealAnswer(operation, Buffer.alloc(0)), operation);
  }
  t.ok(
    json('generate', [{ usageMetadata: {} }, { candidates: [{ finishReason: 'STOP' }] }]),
    'a stream as a list',
  );
});

t.test('a stream is real when one of its events holds a part of the answer, or its end', async (t) => {
  const role = { choices: [{ delta: { role: 'assistant', content: '' }, finish_reason: null }] };
  t.ok(events('chat', role, { choices: [{ delta: { content: 'y' } }] }));
  t.ok(events('chat', role, { choices: [{ delta: {}, finish_reason: 'stop' }] }));
  t.notOk(events('chat', role, { choices: [], usage: {} }));
  t.notOk(events('chat'));
  const end = (status: string, output: unknown[]) => ({
    type: `response.${status}`,
    response: { status, output },
  });
  t.ok(events('responses', end('created', []), { type: 'response.output_text.delta', delta: 'y' }));
  t.ok(events('responses', end('completed', [{ type: 'message' }])));
  t.ok(events('responses', end('incomplete', [])));
  t.notOk(events('responses', end('created', []), end('in_progress', []), end('completed', [])));
  const start = { type: 'message_start', message: { content: [], stop_reason: null } };
  const stop = { type: 'message_stop' };
  t.ok(
    events(
      'messages',
      start,
      { type: 'content_block_start', content_block: { type: 'text', text: '' } },
      stop,
    ),
  );
  t.ok(events('messages', start, { type: 'message_delta', delta: { stop_reason: 'end_turn' } }, stop));
  t.notOk(events('messages', start, stop));
  t.ok(events('generate', { candidates: [{ content: { parts: [{ text: 'y' }] } }] }));
  t.ok(events('images', { type: 'image_generation.completed', b64_json: 'AA' }));
  t.notOk(events('images', { type: 'image_generation.completed' }));
});
