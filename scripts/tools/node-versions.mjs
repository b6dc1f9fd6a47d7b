// Older versions of Node, for the test that installs the package on them.
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { run } from './command.mjs';
import { seconds } from './node-modules.mjs';
import { cache } from './paths.mjs';

/** Name of the tool → version of the npm packages `node-SYSTEM-ARCHITECTURE`. */
const versions = { node20: '20.20.2', node22: '22.23.5' };
const limitMs = 5 * 60_000;

export async function installNodeVersions(record) {
  await Promise.all(Object.entries(versions).map(([name, version]) => provide(record, name, version)));
}

async function provide(record, name, version) {
  const packageName = `node-${process.platform}-${process.arch}`;
  const folder = join(cache, 'node-versions', version);
  const program = join(folder, 'node_modules', packageName, 'bin', 'node');
  try {
    if (!existsSync(program)) {
      const startedMs = Date.now();
      console.log(`outrigger: installing Node ${version} …`);
      mkdirSync(folder, { recursive: true });
      await run(
        'npm',
        ['install', '--prefix', folder, '--no-save', '--no-audit', '--no-fund', `${packageName}@${version}`],
        { limitMs },
      );
      console.log(`outrigger: Node ${version} installed in ${seconds(startedMs)} s`);
    }
    record.has(name, program);
  } catch (error) {
    record.lacks(name, error.message);
  }
}
