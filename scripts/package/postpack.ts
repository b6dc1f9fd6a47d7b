// `npm pack` runs this last: it puts the repository's package.json back.
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..', '..');

export const manifestFile = join(root, 'package.json');
export const savedManifestFile = join(root, '.cache', 'package.json.saved');

/** Does nothing when nothing was saved. */
export function putBack(): void {
  if (!existsSync(savedManifestFile)) return;
  writeFileSync(manifestFile, readFileSync(savedManifestFile));
  rmSync(savedManifestFile);
}

if (import.meta.filename === process.argv[1]) putBack();
