// Clients of models and of tools for Node that only tests use, each in a folder of its own.
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { run } from './command.mjs';
import { seconds } from './node-modules.mjs';
import { cache } from './paths.mjs';

/** Name of the tool → the package, its version, and the file that a test imports. */
const clients = {
  'anthropic-node': { name: '@anthropic-ai/sdk', version: '1.14.0', file: 'index.mjs' },
  'mcp-node': { name: '@modelcontextprotocol/client', version: '2.4.0', file: 'dist/index.mjs' },
  // The one before, which many agents still use.
  'mcp-node-v1': { name: '@modelcontextprotocol/sdk', version: '1.32.2', file: 'dist/esm/client/index.js' },
};
const limitMs = 5 * 60_000;

export async function installNodeClients(record) {
  await Promise.all(Object.entries(clients).map(([tool, client]) => provide(record, tool, client)));
}

async function provide(record, tool, { name, version, file }) {
  const folder = join(cache, 'node-clients', `${tool}-${version}`);
  const entry = join(folder, 'node_modules', name, file);
  try {
    if (!existsSync(entry)) {
      const startedMs = Date.now();
      console.log(`outrigger: installing ${name} ${version} …`);
      mkdirSync(folder, { recursive: true });
      const options = ['--no-save', '--no-audit', '--no-fund', '--ignore-scripts'];
      await run('npm', ['install', '--prefix', folder, ...options, `${name}@${version}`], { limitMs });
      console.log(`outrigger: ${name} ${version} installed in ${seconds(startedMs)} s`);
    }
    record.has(tool, entry);
  } catch (error) {
    record.lacks(tool, error.message);
  }
}
