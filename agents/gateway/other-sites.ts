/** Detects requests that another web site sends through the user's browser. */
import type { IncomingHttpHeaders } from 'node:http';
import { isFromOtherSite } from '../../sidecar/node/other-site.ts';

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
  return isFromOtherSite(method, headers)
    ? 'this gateway refuses requests from pages of other sites'
    : undefined;
}

/** Whether only this machine can reach an address to listen on. */
export function isLoopback(host: string): boolean {
  return loopbackName.test(host) || host === '::1';
}
