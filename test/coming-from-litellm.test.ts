// The page for users of LiteLLM names keys of ours that exist, and its example is a configuration without a warning.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { parse } from 'yaml';
import { schemaOfKey } from '../scripts/harness/config-schema.ts';
import { toConfig } from '../sidecar/config/config.ts';
import { validate } from '../sidecar/config/validate.ts';

const page = readFileSync(join(import.meta.dirname, '..', 'docs', 'coming-from-litellm.md'), 'utf8');

t.test('each key of ours exists', async (t) => {
  const keys = [...page.matchAll(/`(llm\.[\w.]+)`/g)].map(([, key]) => key!);
  t.ok(keys.length > 15, `${keys.length} keys`);
  for (const key of keys) t.ok(schemaOfKey(key), key);
});

t.test('the example does what the one of LiteLLM does', async (t) => {
  const [, example = ''] = /<!-- the same in outrigger\.yaml -->\s*```yaml\n(.*?)```/s.exec(page) ?? [];
  const validated = validate(parse(example));
  t.notOk('findings' in validated, JSON.stringify(validated));
  if ('findings' in validated) return;
  const { llm } = toConfig(validated.file);
  t.strictSame(
    llm.models.map(({ match, use }) => [match, use.map(({ upstream }) => upstream)]),
    [
      ['fast', ['openai', 'azure']],
      ['claude-sonnet', ['claude']],
    ],
  );
  t.match(llm, { timeoutMs: 600_000, retry: { maxAttempts: 3 } });
});
