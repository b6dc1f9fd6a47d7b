// `node bench/single/egress-collections.ts [DIR]`: what the collector does for each request of an egress, of this checkout or of the
// one in DIR. What requests leave in the old generation is moved there by small collections, and found by large ones.
import { resolve } from 'node:path';
import { asker } from '../../scripts/harness/llm/asker.ts';
import { startSidecar } from '../../scripts/harness/sidecar.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { startProvider } from '../llm/systems.ts';
import { Cleanup } from '../world/cleanup.ts';
import { LOAD_CORE } from '../world/start.ts';

const WARM_UP_REQUESTS = 4_000;
const REQUESTS = 8_000;
/** `… Scavenge 42.8 (63.7) -> 29.8 (63.7) MB, pooled: 0 MB, 0.31 / 0.00 ms …` */
const COLLECTION =
  /(Scavenge|Mark-Compact).*? ([\d.]+) \([\d.]+\) -> ([\d.]+) \([\d.]+\) MB.*?([\d.]+) \/ [\d.]+ ms/g;

const [folder] = process.argv.slice(2);
const cleanup = new Cleanup();
try {
  const url = await startProvider(cleanup, LOAD_CORE);
  const sidecar = await startSidecar(
    cleanup,
    { llm: { upstreams: [{ name: 'provider', url }] } },
    {
      until: 'live',
      // Node takes this flag from its command line only.
      launcher: ['sh', '-c', 'exec "$0" --trace-gc "$@"'],
      checkout: folder === undefined ? undefined : resolve(folder),
    },
  );
  const ask = asker(cleanup, `http://127.0.0.1:${sidecar.llmPort}/v1`);
  for (const stream of [false, true]) {
    await ask(WARM_UP_REQUESTS, stream);
    const from = sidecar.logs().length;
    await ask(REQUESTS, stream);
    await waitUntil('the trace reports a collection', () => sidecar.logs().slice(from).includes(' ms '));
    const seen = [...sidecar.logs().slice(from).matchAll(COLLECTION)];
    const of = (kind: string) => seen.filter(([, name]) => name === kind);
    const ms = seen.reduce((sum, [, , , , spent]) => sum + Number(spent), 0);
    const mostMb = Math.max(...seen.map(([, , before]) => Number(before)));
    console.log(
      `${stream ? 'streamed' : 'plain'}: ${of('Scavenge').length} small and ${of('Mark-Compact').length} large collections, ` +
        `${((ms * 1000) / REQUESTS).toFixed(1)} µs a request, heap ${mostMb.toFixed(0)} MB at most`,
    );
  }
} finally {
  await cleanup.run();
}
process.exit();
