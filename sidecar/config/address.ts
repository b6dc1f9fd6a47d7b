/** Checks of the configuration's addresses beyond their syntax: whether we can listen there, and whether two collide. */
import { isIP, isIPv4 } from 'node:net';
import { type Address, parseAddress } from '../cluster/address.ts';
import { hostName } from '../cluster/authority.ts';

/** Parses an address of a configuration that is already valid; accepts port 0. */
export function readAddress(text: string): Address {
  return parseAddress(text, { forListening: true });
}

/** Returns what is wrong with an address and what to write instead, or `undefined` for a valid one. */
export function complaintAboutAddress(
  text: string,
  use: 'connect' | 'listen',
): { message: string; remedy: string } | undefined {
  try {
    const address = parseAddress(text, { forListening: use === 'listen' });
    if (use === 'connect' || address.kind === 'unix') return undefined;
    if (address.host === 'localhost' || isIP(address.host) !== 0) return undefined;
    const remedy = 'write an IP address of this machine, or localhost; 0.0.0.0 or [::] is every interface';
    return { message: 'names a host to listen on', remedy };
  } catch (error) {
    // Messages of address errors end with the remedy.
    const { message } = error as Error;
    const end = message.lastIndexOf('; ');
    return { message: message.slice(0, end), remedy: message.slice(end + 2) };
  }
}

/** Whether two listeners on these addresses would collide (any-address overlaps every address). */
export function overlaps(a: Address, b: Address): boolean {
  if (a.kind === 'unix' || b.kind === 'unix') {
    return a.kind === 'unix' && b.kind === 'unix' && a.path === b.path;
  }
  if (a.port !== b.port || a.port === 0) return false;
  return isAny(a.host) || isAny(b.host) || canonicalHost(a.host) === canonicalHost(b.host);
}

/** Whether a connection to `target` from this machine reaches a listener on `listen`. */
export function reaches(target: Address, listen: Address): boolean {
  if (target.kind === 'unix' || listen.kind === 'unix') return overlaps(target, listen);
  if (target.port !== listen.port) return false;
  if (isAny(listen.host)) return isLoopback(target.host) || isAny(target.host);
  return canonicalHost(target.host) === canonicalHost(listen.host);
}

function isLoopback(host: string): boolean {
  const name = hostName(host);
  return name === 'localhost' || name === '::1' || (isIPv4(name) && name.startsWith('127.'));
}

function isAny(host: string): boolean {
  const name = hostName(host);
  return name === '0.0.0.0' || name === '::';
}

function canonicalHost(host: string): string {
  const name = hostName(host);
  return name === 'localhost' ? '127.0.0.1' : name;
}
