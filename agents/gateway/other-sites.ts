/** Detects requests that another web site sends through the user's browser. */
import type { IncomingHttpHeaders } from 'node:http';

const loopbackName = /^(localhost|.+\.localhost|127(\.\d{1,3}){3}|\[::1\])$/i;

/**
 * Why a request to a gateway on a loopback address may come from another site; undefined if it does not.
 *
 * A web page that the user has open can send requests to this machine. Sec-Fetch-Site (W3C Fetch Metadata) reveals that
 * site, unless its name resolves to this machine (DNS rebinding): then Host reveals it.
 *
 * @param names further names of this gateway, in lower case
 */
export function otherSite(
  method: string,
  headers: IncomingHttpHeaders,
  names: readonly string[],
): string | undefined {
  const name = (headers.host ?? '').replace(/:\d+$/, '');
  if (!loopbackName.test(name) && !names.includes(name.toLowerCase())) {
    return `this gateway has no name "${name.slice(0, 64)}"; GATEWAY_HOSTS adds names`;
  }
  const site = headers['sec-fetch-site'];
  // A link or a typed address may lead here from anywhere; it only shows a page.
  const isNavigation = method === 'GET' && headers['sec-fetch-mode'] === 'navigate';
  if ((site === 'cross-site' || site === 'same-site') && !isNavigation) {
    return 'this gateway refuses requests from pages of other sites';
  }
  return undefined;
}

/** Whether only this machine can reach an address to listen on. */
export function isLoopback(host: string): boolean {
  return loopbackName.test(host) || host === '::1';
}
