// Builds docs/performance.md from the results alone.
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { renderDocument } from './document/page.ts';

const docs = join(import.meta.dirname, '..', '..', 'docs');

t.test('docs/performance.md is what `npm run bench:docs` writes from bench/results', async (t) => {
  const { markdown, pictures } = renderDocument();
  t.equal(readFileSync(join(docs, 'performance.md'), 'utf8'), markdown, 'run npm run bench:docs');
  const images = join(docs, 'images');
  t.strictSame(globSync('performance-*.svg', { cwd: images }).sort(), [...pictures.keys()].sort());
  for (const [name, content] of pictures) t.equal(readFileSync(join(images, name), 'utf8'), content, name);
});
