/** Tells requests that a page of another site sends through the user's browser, by W3C Fetch Metadata. */
import type { IncomingHttpHeaders } from 'node:http';

/**
 * Whether a page of another site sent the request. A link or a typed address may lead here from anywhere, in a window of its
 * own: it only shows a page.
 */
export function isFromOtherSite(method: string | undefined, headers: IncomingHttpHeaders): boolean {
  const site = headers['sec-fetch-site'];
  if (site !== 'cross-site' && site !== 'same-site') return false;
  const dest = headers['sec-fetch-dest'];
  const isTopLevel =
    method === 'GET' &&
    headers['sec-fetch-mode'] === 'navigate' &&
    (dest === undefined || dest === 'document');
  return !isTopLevel;
}
