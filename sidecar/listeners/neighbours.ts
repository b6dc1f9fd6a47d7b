/**
 * Decides which IPv6 addresses count as one caller. A host with one IPv6 address usually has its whole /64 network, 2^64
 * addresses, and could pose as as many callers. But the pods of a Kubernetes node share such a network, too. So up to
 * `MAX_SINGLE` addresses of a network count one by one, and all further ones count as one caller, named by the network.
 */

/** More than a node has pods. */
export const MAX_SINGLE = 256;

/** The addresses that count one by one now. */
export class Neighbours {
  private readonly byNetwork = new Map<string, Set<string>>();

  /** @returns the address, or its network when enough other addresses of it count one by one */
  nameOf(address: string): string {
    const network = networkOf(address);
    const single = network === undefined ? undefined : this.byNetwork.get(network);
    return single === undefined || single.size < MAX_SINGLE || single.has(address) ? address : network!;
  }

  /** @param name from `nameOf` */
  add(name: string): void {
    const network = networkOf(name);
    if (network === undefined) return;
    const single = this.byNetwork.get(network) ?? new Set();
    this.byNetwork.set(network, single.add(name));
  }

  delete(name: string): void {
    const network = networkOf(name);
    const single = network === undefined ? undefined : this.byNetwork.get(network);
    if (single?.delete(name) === true && single.size === 0) this.byNetwork.delete(network!);
  }
}

/** `2001:db8::1` → `2001:db8:0:0::/64`. Undefined for anything that is no IPv6 address, also for the name of a network. */
export function networkOf(address: string): string | undefined {
  if (!address.includes(':') || address.includes('/')) return undefined;
  const [bare = ''] = address.split('%', 1);
  const [front = '', back] = bare.split('::', 2);
  const groups = front === '' ? [] : front.split(':');
  const behind = back === undefined || back === '' ? [] : back.split(':');
  if (back !== undefined) while (groups.length + behind.length < 8) groups.push('0');
  return `${[...groups, ...behind].slice(0, 4).join(':')}::/64`;
}
