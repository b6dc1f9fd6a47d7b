/** Serves the files of the dashboard, with a content security policy that allows nothing else. */
import { sharedPageFiles } from '../node/page-files.ts';
import { type HttpRoute, send } from './http-server.ts';

const HTML = 'text/html; charset=utf-8';
const SCRIPT = 'text/javascript; charset=utf-8';

const OWN_FILES = [
  { path: '/', file: 'index.html', type: HTML },
  { path: '/dashboard.css', file: 'dashboard.css', type: 'text/css; charset=utf-8' },
  { path: '/dashboard.js', file: 'dashboard.js', type: SCRIPT },
  { path: '/connection.js', file: 'connection.js', type: SCRIPT },
  { path: '/traffic.js', file: 'traffic.js', type: SCRIPT },
  { path: '/clusters.js', file: 'clusters.js', type: SCRIPT },
  { path: '/journal.js', file: 'journal.js', type: SCRIPT },
  { path: '/llm.js', file: 'llm.js', type: SCRIPT },
  { path: '/models.js', file: 'models.js', type: SCRIPT },
  { path: '/now.js', file: 'now.js', type: SCRIPT },
  { path: '/peers.js', file: 'peers.js', type: SCRIPT },
  { path: '/graph.js', file: 'graph.js', type: SCRIPT },
  { path: '/overview.js', file: 'overview.js', type: SCRIPT },
  { path: '/calls.js', file: 'calls.js', type: SCRIPT },
  { path: '/words.js', file: 'words.js', type: SCRIPT },
  { path: '/icon.svg', file: 'icon.svg', type: 'image/svg+xml' },
] as const;

const FILES = [
  ...OWN_FILES.map((one) => ({ ...one, file: new URL(`dashboard/${one.file}`, import.meta.url) })),
  ...sharedPageFiles,
];

const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  "img-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

export function dashboardRoutes(): HttpRoute[] {
  return FILES.map(({ path, file, type }) => ({
    method: 'GET',
    path,
    handle: async (_request, response) => {
      // Loaded here: few sidecars ever serve a dashboard.
      const { readFile } = await import('node:fs/promises');
      const text = await readFile(file, 'utf8');
      response.setHeader('Content-Security-Policy', CONTENT_SECURITY_POLICY);
      response.setHeader('Referrer-Policy', 'no-referrer');
      send(response, 200, type, text);
    },
  }));
}
