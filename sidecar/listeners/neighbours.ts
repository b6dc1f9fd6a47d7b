/**
 * Whom an address stands for. Whoever has one address of IPv6 usually has all of its network of 64 bits, 2^64 of them, and could
 * be as many callers. But the pods of a node in Kubernetes share such a network, too: some hundred addresses of one are told apart,
 * and those that come beyond these count as one caller, by the name of the network.
 */

/** More than a node has pods. */
export const TOLD_APART = 256;

/** The addresses that are told apart now. */
export class Neighbours {
  readonly #byNetwork = new Map<string, Set<string>>();

  /** @returns the address, or its network where too many others of it are told apart */
  nameOf(address: string): string {
    const network = networkOf(address);
    const told = network === undefined ? undefined : this.#byNetwork.get(network);
    return told === undefined || told.size < TOLD_APART || told.has(address) ? address : network!;
  }

  /** @param name from `nameOf` */
  add(name: string): void {
    const network = networkOf(name);
    if (network === undefined) return;
    const told = this.#byNetwork.get(network) ?? new Set();
    this.#byNetwork.set(network, told.add(name));
  }

  delete(name: string): void {
    const network = networkOf(name);
    const told = network === undefined ? undefined : this.#byNetwork.get(network);
    if (told?.delete(name) === true && told.size === 0) this.#byNetwork.delete(network!);
  }
}

/** `2001:db8::1` → `2001:db8:0:0::/64`. Undefined for what is no address of IPv6, or the name of a network. */
export function networkOf(address: string): string | undefined {
  if (!address.includes(':') || address.includes('/')) return undefined;
  const [bare = ''] = address.split('%', 1);
  const [front = '', back] = bare.split('::', 2);
  const groups = front === '' ? [] : front.split(':');
  const behind = back === undefined || back === '' ? [] : back.split(':');
  if (back !== undefined) while (groups.length + behind.length < 8) groups.push('0');
  return `${[...groups, ...behind].slice(0, 4).join(':')}::/64`;
}
