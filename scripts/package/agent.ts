// Builds `outrigger/agent` for the package: JavaScript that runs on Node 20, and its types.
import { spawnSync } from 'node:child_process';
import { globSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';

const root = join(import.meta.dirname, '..', '..');

/** The entry, in the repository and, with `.d.ts`, among the types. */
const ENTRY = 'agents/runtime/serve.ts';

/** @param out the folder `dist` of the package; its `agent` and `types` are replaced */
export async function buildAgent(out: string): Promise<void> {
  for (const folder of ['agent', 'types']) rmSync(join(out, folder), { recursive: true, force: true });
  await build({
    entryPoints: [join(root, ENTRY)],
    outdir: join(out, 'agent'),
    outExtension: { '.js': '.mjs' },
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    // Shared with the agent, or its own choice.
    external: ['@grpc/*', 'openai', '@modelcontextprotocol/*', '@opentelemetry/*'],
    legalComments: 'linked',
    logLevel: 'warning',
    // CommonJS packages in the bundle require Node's own modules.
    banner: {
      js: "import { createRequire as toRequire } from 'node:module';\nconst require = toRequire(import.meta.url);",
    },
  });
  writeTypes(join(out, 'types'));
}

function writeTypes(out: string): void {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [
      join(root, 'node_modules', 'typescript', 'bin', 'tsc'),
      '--project',
      join(root, 'scripts/package/tsconfig.json'),
      '--outDir',
      out,
    ],
    { cwd: root, encoding: 'utf8' },
  );
  if (status !== 0) throw new Error(`the types can't be written:\n${stdout}${stderr}`);
  for (const file of globSync('**/*.d.ts', { cwd: out })) {
    const path = join(out, file);
    writeFileSync(path, forConsumers(readFileSync(path, 'utf8')));
  }
}

/**
 * Imports of `.ts` files are imports of declarations here. Without the openai package, `context.openai` is `any` and
 * not an error.
 */
function forConsumers(declarations: string): string {
  return declarations
    .replaceAll(/(from\s+|import\()'(\.[^']*)\.ts'/g, "$1'$2.js'")
    .replaceAll(/^(import .* from 'openai';)$/gm, '// @ts-ignore: an optional peer\n$1');
}
