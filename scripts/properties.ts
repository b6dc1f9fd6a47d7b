// Runs the property tests with new seeds: `npm run properties [-- ROUNDS]`. The suite itself draws the same numbers each time.
import { spawnSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
const rounds = Number(process.argv[2] ?? 1);
if (!(Number.isSafeInteger(rounds) && rounds > 0)) {
  console.error(
    'properties: the number of rounds is a whole number above 0, as in "npm run properties -- 5"',
  );
  process.exit(64);
}
const files = globSync('{sidecar,agents,bench,test}/**/*.test.ts', { cwd: root })
  .filter((path) => readFileSync(join(root, path), 'utf8').includes('harness/properties.ts'))
  .sort();

let failed = 0;
for (let round = 1; round <= rounds; round++) {
  for (const path of files) {
    const seed = randomInt(2 ** 31);
    const run = spawnSync(process.execPath, [path], {
      cwd: root,
      env: { ...process.env, PROPERTY_SEED: String(seed) },
      encoding: 'utf8',
      maxBuffer: 256 << 20,
    });
    if (run.status === 0) continue;
    failed++;
    console.log(
      run.stdout
        .split('\n')
        .filter((line) => /^\s*not ok /.test(line))
        .join('\n'),
    );
    console.log(`failed; run it again: PROPERTY_SEED=${seed} node ${path}`);
  }
}
console.log(`${files.length} files, ${rounds} rounds, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
