// What the files of tests of the egress begin with.
import type { Test } from 'tap';
import { type LlmProvider, startLlmProvider } from '../../scripts/harness/llm/provider.ts';

/** Below the runner's own limit for a file: a test that hangs is named. */
const FILE_LIMIT_MS = 290_000;

/**
 * The provider of a whole file, and the file's time: its tests wait for clocks and start processes, which takes longer on a
 * machine that is busy with other tests.
 */
export async function providerFor(
  t: Pick<Test, 'setTimeout' | 'teardown'>,
  tls?: { readonly cert: string; readonly key: string },
): Promise<LlmProvider> {
  t.setTimeout(FILE_LIMIT_MS);
  const provider = await startLlmProvider(tls);
  t.teardown(() => provider.close());
  return provider;
}
