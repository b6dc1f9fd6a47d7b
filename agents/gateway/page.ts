/** Serves the gateway's page. */
import { readFileSync } from 'node:fs';
import type { FastifyInstance } from 'fastify';
import { sharedPageFiles } from '../../sidecar/node/page-files.ts';

const ownFiles = [
  ['/', 'index.html', 'text/html; charset=utf-8'],
  ['/page.js', 'page.js', 'text/javascript; charset=utf-8'],
  ['/system.js', 'system.js', 'text/javascript; charset=utf-8'],
  ['/graph.js', 'graph.js', 'text/javascript; charset=utf-8'],
  ['/found.js', 'found.js', 'text/javascript; charset=utf-8'],
  ['/bus.js', 'bus.js', 'text/javascript; charset=utf-8'],
  ['/tasks.js', 'tasks.js', 'text/javascript; charset=utf-8'],
  ['/icon.svg', 'icon.svg', 'image/svg+xml'],
  ['/page.css', 'page.css', 'text/css; charset=utf-8'],
] as const;

const files = [
  ...ownFiles.map(([path, name, type]) => ({ path, file: new URL(`page/${name}`, import.meta.url), type })),
  ...sharedPageFiles,
];

/** The page needs only its own files, so the policy allows nothing else. */
const policy = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/** GET /: the page of the local system, from which a user can send a task. */
export function pageRoutes(app: FastifyInstance, links: readonly { name: string; url: string }[]): void {
  for (const { path, file, type } of files) {
    const content = readFileSync(file);
    app.get(path, { schema: { hide: true } }, (_request, reply) =>
      reply.type(type).header('content-security-policy', policy).send(content),
    );
  }
  app.get('/page/links', { schema: { hide: true } }, () => links);
}
