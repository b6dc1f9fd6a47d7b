// `npm run bench:docs`: writes docs/performance.md and its pictures from bench/results. A full run does so, too.
import { writeDocument } from './report/document/write.ts';

console.log(`written: ${writeDocument()}`);
