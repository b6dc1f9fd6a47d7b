// Holds that a reader finds what a folder is for: it has a README, or the README of a folder above names it. The layout in CONTRIBUTING
// describes the top.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import t from 'tap';

const root = join(import.meta.dirname, '..');
const tracked = execFileSync('git', ['ls-files'], { cwd: root, encoding: 'utf8' }).trim().split('\n');
const folders = [...new Set(tracked.map((file) => dirname(file)))]
  // Written in other languages, where the tools decide how folders are named; the README above describes each program.
  .filter((folder) => folder !== '.' && folder !== '.ci' && !/^test\/languages\/./.test(folder));

/** The README of the folder itself, or the first one above that names it. */
function describedBy(folder: string): string | undefined {
  if (existsSync(join(root, folder, 'README.md'))) return join(folder, 'README.md');
  const name = new RegExp(`\\b${basename(folder)}\\b`);
  for (let above = dirname(folder); ; above = dirname(above)) {
    const readme = join(above, above === '.' ? 'CONTRIBUTING.md' : 'README.md');
    if (existsSync(join(root, readme)) && name.test(readFileSync(join(root, readme), 'utf8'))) return readme;
    if (above === '.') return undefined;
  }
}

t.test('each folder is described by its README, or by one above it', async (t) => {
  t.ok(folders.length > 50, 'the tree was read');
  for (const folder of folders) t.ok(describedBy(folder), folder);
});

t.test('each source file opens with its purpose', async (t) => {
  const sources = tracked.filter((file) => /\.(ts|mjs)$/.test(file));
  t.ok(sources.length > 500, 'the tree was read');
  for (const file of sources) {
    const [first = '', second = ''] = readFileSync(join(root, file), 'utf8').split('\n');
    t.match(first.startsWith('#!') ? second : first, /^\/[/*]/, file);
  }
});
