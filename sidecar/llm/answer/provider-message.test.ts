// What of a provider's error people are told.
import t from 'tap';
import { oneLine, providerMessage, withoutKeys } from './provider-message.ts';

const said = (body: unknown) =>
  providerMessage(Buffer.from(typeof body === 'string' ? body : JSON.stringify(body)));

t.test('the message of an error is found in every form of the providers', async (t) => {
  for (const [body, message] of [
    [{ error: { message: 'no such model', type: 'x', code: 'model_not_found' } }, 'no such model'],
    [
      { type: 'error', error: { type: 'authentication_error', message: 'invalid x-api-key' } },
      'invalid x-api-key',
    ],
    [
      [{ error: { code: 400, message: 'API key not valid.', status: 'INVALID_ARGUMENT' } }],
      'API key not valid.',
    ],
    [{ error: 'model "x" not found' }, 'model "x" not found'],
    [{ message: 'Unauthorized', request_id: '1' }, 'Unauthorized'],
    [{ detail: 'Not Found' }, 'Not Found'],
    [{ detail: [{ loc: ['body'], msg: 'Field required' }] }, '[{"loc":["body"],"msg":"Field required"}]'],
    [{ error: { code: 'unsupported' } }, 'unsupported'],
    ['404 page not found\n', '404 page not found'],
    ['<html><body>nginx</body></html>', ''],
    ['{"error": {"mess', ''],
    ['null', 'null'],
    ['{}', ''],
    ['[]', ''],
    ['', ''],
  ] as const)
    t.equal(oneLine(said(body)), message, JSON.stringify(body));
  t.equal(oneLine(said({ message: `a\n\tb\u0000${'x'.repeat(5_000)}` })).length, 300, 'bounded');
  t.match(oneLine('a\r\n\u001b[31m b'), /^a \[31m b$/, 'on one line');
});

t.test('keys in a message are masked, whole or in part', async (t) => {
  const own = 'Zq9-own/key+1';
  for (const [text, clean] of [
    [
      'Incorrect API key provided: sk-proj-abc***wxyz. You can',
      'Incorrect API key provided: [secret]. You can',
    ],
    ['Your api key: ****1234 is invalid', 'Your api key: [secret] is invalid'],
    ['Incorrect API key provided: xa***23.', 'Incorrect API key provided: [secret].'],
    [
      'Received API Key = sk-...1234, Key Hash (Token) =88dc28d0f030c55ed4ab77ed8faf098196cb1c05',
      'Received API Key = [secret], Key Hash (Token) =[secret]',
    ],
    ['Bearer eyJhbGciOi.J9-_x is no token', 'Bearer [secret] is no token'],
    ['gsk_12345678 xai-12345678 hf_abcdefgh AIzaSyA-1234567', '[secret] [secret] [secret] [secret]'],
    [`the key ${own} is wrong`, 'the key [secret] is wrong'],
    [
      'the model `claude-3-5-sonnet-20241022` does not exist',
      'the model `claude-3-5-sonnet-20241022` does not exist',
    ],
    ['use max_completion_tokens, not max_tokens', 'use max_completion_tokens, not max_tokens'],
    ['see https://platform.openai.com/account/api-keys', 'see https://platform.openai.com/account/api-keys'],
  ] as const)
    t.equal(withoutKeys(text, [own, 'none']), clean, text);
});
