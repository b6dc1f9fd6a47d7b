import type { IncomingHttpHeaders } from 'node:http';

const loopbackName = /^(localhost|.+\.localhost|127(\.\d{1,3}){3}|\[::1\])$/i;

/**
 * Why a request to a gateway on a loopback address may be another site's doing; undefined if it is not.
 *
 * A web page the user has open can send requests to this machine. Its own site shows in Sec-Fetch-Site (W3C
 * Fetch Metadata), unless the site's name has been made to point here (DNS rebinding): then it shows in Host.
 *
 * @param names further names this gateway is known by, in lower case
 */
export function otherSite(
  method: string,
  headers: IncomingHttpHeaders,
  names: readonly string[],
): string | undefined {
  const name = (headers.host ?? '').replace(/:\d+$/, '');
  if (!loopbackName.test(name) && !names.includes(name.toLowerCase())) {
    return `this gateway is not known as "${name.slice(0, 64)}"; GATEWAY_HOSTS can add names`;
  }
  const site = headers['sec-fetch-site'];
  // A link or a typed address may lead here from anywhere; it only shows a page.
  const isNavigation = method === 'GET' && headers['sec-fetch-mode'] === 'navigate';
  if ((site === 'cross-site' || site === 'same-site') && !isNavigation) {
    return 'pages of other sites may not use this gateway';
  }
  return undefined;
}

/** Whether an address to listen on can only be reached from this machine. */
export function isLoopback(host: string): boolean {
  return loopbackName.test(host) || host === '::1';
}
