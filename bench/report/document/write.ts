// Puts the page and its pictures in their places.
import { globSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { renderDocument } from './page.ts';

const docs = join(import.meta.dirname, '..', '..', '..', 'docs');

/** Answers what was written. */
export function writeDocument(): string {
  const images = join(docs, 'images');
  const { markdown, pictures } = renderDocument();
  mkdirSync(images, { recursive: true });
  for (const old of globSync('performance-*.svg', { cwd: images })) rmSync(join(images, old));
  for (const [name, content] of pictures) writeFileSync(join(images, name), content);
  writeFileSync(join(docs, 'performance.md'), markdown);
  return `docs/performance.md and ${pictures.size} pictures in docs/images`;
}
