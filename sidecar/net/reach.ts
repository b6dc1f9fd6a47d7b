/** Decides whether two listen addresses collide, and whether a target is an address of ours. */
import { isIPv4 } from 'node:net';
import type { Address } from './address.ts';
import { hostName } from './authority.ts';

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

/** Whether the name or address of a host means this machine alone. */
export function isLoopback(host: string): boolean {
  const name = hostName(host);
  return name === 'localhost' || name === '::1' || (isIPv4(name) && name.startsWith('127.'));
}

/** Whether other machines, or other pods, may reach a listener on this address. */
export function isBeyondLoopback(listen: Address): boolean {
  return listen.kind !== 'unix' && !isLoopback(listen.host);
}

function isAny(host: string): boolean {
  const name = hostName(host);
  return name === '0.0.0.0' || name === '::';
}

function canonicalHost(host: string): string {
  const name = hostName(host);
  return name === 'localhost' ? '127.0.0.1' : name;
}
