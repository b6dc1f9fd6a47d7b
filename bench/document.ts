// `npm run bench:docs`: writes docs/performance.md and its pictures from bench/results.
import { globSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { renderDocument } from './document/page.ts';

const docs = join(import.meta.dirname, '..', 'docs');
const images = join(docs, 'images');
const { markdown, pictures } = renderDocument();

mkdirSync(images, { recursive: true });
for (const old of globSync('performance-*.svg', { cwd: images })) rmSync(join(images, old));
for (const [name, content] of pictures) writeFileSync(join(images, name), content);
writeFileSync(join(docs, 'performance.md'), markdown);
console.log(`written: docs/performance.md and ${pictures.size} pictures in docs/images`);
