// Compiles the sidecar's code once, so that its first start is as fast and as small as later ones. Runs on Node 24;
// `install.mjs` starts it, and nothing depends on its success.
import { enableCompileCache, flushCompileCache } from 'node:module';
import { fileURLToPath } from 'node:url';

enableCompileCache(fileURLToPath(new URL('../node_modules/.cache/outrigger', import.meta.url)));
// The command line prints its version, and has thereby loaded itself.
process.argv[2] = '--version';
for (const part of [
  'main.ts',
  'commands/run.ts',
  'process/start.ts',
  'admin/metrics/metrics.ts',
  'config/source.ts',
  'llm/egress.ts',
]) {
  await import(new URL(`../sidecar/${part}`, import.meta.url).href);
}
await import('yaml');
flushCompileCache();
