// `npm run bundle`: bundles the sidecar into a few JavaScript files in dist/, for the image. They need only Node: no
// node_modules and no type stripping, which saves the stripper's memory.
//
//     dist/outrigger.mjs     the command; it turns the compile cache on, then loads main.mjs
//     dist/main.mjs, …       the code, in chunks that are loaded on demand
//     dist/task-thread.mjs   the thread of a task file, loaded by the embedded bus
//     dist/journal-thread.mjs the thread of the journal's file
//     dist/dashboard/        the files of the admin page
//     dist/page/             the files that it shares with the gateway's page
//     dist/compile-cache/    V8's compiled code, made on the Node that will run it (--compile)
//
// --out FOLDER writes to another folder and deletes that folder's contents; --target node22 is for an older Node;
// --packages FILE lists the npm packages in the bundle as NAME@VERSION, for scripts/sbom.mjs.
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { build } from 'esbuild';
import { builtinsByName, requireBuiltin } from './bundle/builtins.mjs';
import { root } from './tools/paths.mjs';

/** @type {(name: string) => string | undefined} */
const option = (name) =>
  process.argv.includes(name) ? process.argv[process.argv.indexOf(name) + 1] : undefined;
const dist = resolve(option('--out') ?? join(root, 'dist'));
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

// The folder itself stays: in the image's build, the user of the build may not create it.
mkdirSync(dist, { recursive: true });
for (const name of readdirSync(dist)) rmSync(join(dist, name), { recursive: true, force: true });

let hasVersion = false;
/** Threads, by the folder that has the file with their place. */
const threads = { 'bus/local': 'task-thread.mjs', 'journal/file': 'journal-thread.mjs' };
/** @type {Set<string>} */
const found = new Set();

/** @type {import('esbuild').BuildOptions & { plugins: import('esbuild').Plugin[] }} */
const options = {
  bundle: true,
  format: 'esm',
  platform: 'node',
  target: option('--target') ?? 'node24',
  minifySyntax: true,
  minifyWhitespace: true,
  legalComments: 'linked',
  logLevel: 'warning',
  banner: { js: requireBuiltin },
  plugins: [builtinsByName],
};

const { metafile } = await build({
  ...options,
  // main.ts would restart itself through bin.mjs to turn the type stripper off; a bundle has none.
  stdin: {
    contents: `import { dispatch } from './commands/dispatch.ts';
process.exitCode = await dispatch(process.argv.slice(2));`,
    resolveDir: join(root, 'sidecar'),
    sourcefile: 'main.ts',
    loader: 'ts',
  },
  entryNames: 'main',
  chunkNames: '[name]-[hash]',
  outdir: dist,
  outExtension: { '.js': '.mjs' },
  splitting: true,
  // Prefer the ESM builds of packages that have both: a CommonJS module loaded by import() has no named exports in a
  // bundle.
  mainFields: ['module', 'main'],
  alias: { yaml: join(root, 'node_modules', 'yaml', 'browser', 'index.js') },
  metafile: true,
  plugins: [
    ...options.plugins,
    {
      // Its ESM build loads grpc-js by a custom require, which a bundler can't see.
      name: 'grpc-js of the OTLP exporter',
      setup({ onLoad }) {
        onLoad({ filter: /otlp-grpc-exporter-base\/dist\/.*\.mjs$/ }, ({ path }) => ({
          contents: readFileSync(path, 'utf8').replaceAll('__require(', 'require('),
          loader: 'js',
        }));
      },
    },
    {
      name: 'version',
      setup({ onLoad }) {
        onLoad({ filter: /sidecar\/telemetry\/version\.ts$/ }, () => {
          hasVersion = true;
          return {
            contents: `export const outriggerVersion = () => ${JSON.stringify(version)};`,
            loader: 'ts',
          };
        });
      },
    },
    {
      name: 'threads',
      setup({ onLoad }) {
        for (const [folder, file] of Object.entries(threads))
          onLoad({ filter: new RegExp(`sidecar/${folder}/thread-url\\.ts$`) }, () => {
            found.add(folder);
            return {
              contents: `export const threadUrl = () => new URL('./${file}', import.meta.url);`,
              loader: 'ts',
            };
          });
      },
    },
  ],
});
for (const [folder, file] of Object.entries(threads))
  await build({
    ...options,
    entryPoints: [join(root, 'sidecar', folder, 'thread.ts')],
    outfile: join(dist, file),
  });
// The file that reads the version may move; without this replacement the bundle would look for a package.json that is
// not in the image.
if (!hasVersion) throw new Error('found no file of the sidecar with its version: see the plugin above');
for (const folder of Object.keys(threads))
  if (!found.has(folder) && Object.keys(metafile.inputs).some((file) => file.includes(`/${folder}/`)))
    throw new Error(`found no file that says where the thread of ${folder} is: see the plugin above`);
writeFileSync(
  join(dist, 'outrigger.mjs'),
  `#!/usr/bin/env node
import { enableCompileCache } from 'node:module';
import { fileURLToPath } from 'node:url';
enableCompileCache(fileURLToPath(new URL('compile-cache', import.meta.url)));
await import('./main.mjs');
`,
  { mode: 0o755 },
);
cpSync(join(root, 'sidecar', 'listeners', 'dashboard'), join(dist, 'dashboard'), { recursive: true });
cpSync(join(root, 'sidecar', 'node', 'page'), join(dist, 'page'), { recursive: true });

const list = option('--packages');
if (list !== undefined) writeFileSync(list, `${bundledPackages().join('\n')}\n`);
if (process.argv.includes('--compile')) compile();

const bytes = Object.values(metafile.outputs).reduce((total, output) => total + output.bytes, 0);
console.log(
  `dist/: ${Object.keys(metafile.outputs).length} files, ${(bytes / 1024 / 1024).toFixed(1)} MiB; main.mjs ${(statSync(join(dist, 'main.mjs')).size / 1024).toFixed(0)} KiB`,
);

/** `pino@10.4.0`, …: the packages of which code is in the bundle. */
function bundledPackages() {
  const inputs = Object.values(metafile.outputs).flatMap((output) => Object.keys(output.inputs));
  // `builtin:url?…` is code of a plugin.
  const files = inputs.filter((file) => !/^\w+:/.test(file));
  const folders = files.flatMap(
    (file) => /^.*\/node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/.exec(resolve(file))?.[0] ?? [],
  );
  return [...new Set(folders)]
    .map((folder) => {
      const { name, version } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
      return `${name}@${version}`;
    })
    .sort();
}

/** Runs the sidecar once, so that the cache holds the code that a start needs. */
function compile() {
  const listeners = ['inbound', 'outbound', 'llm', 'admin', 'metrics', 'health'].flatMap((name) => [
    `--${name}.listen`,
    '127.0.0.1:0',
  ]);
  const { status, stderr, stdout } = spawnSync(
    process.execPath,
    [join(dist, 'outrigger.mjs'), 'run', '--drain.timeout', '0s', ...listeners],
    // Node writes the cache when the sidecar idles, two seconds after its start, or ends.
    { encoding: 'utf8', timeout: 6_000, killSignal: 'SIGTERM' },
  );
  if (status !== 0 && status !== null) throw new Error(`the bundle does not run:\n${stdout}${stderr}`);
}
