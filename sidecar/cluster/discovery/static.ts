/** Endpoints that the configuration lists. A host name is resolved when the pool connects to it. */
import { formatAddress, parseAddress } from '../../net/address.ts';
import type { Discovery } from './discovery.ts';

export class StaticDiscovery implements Discovery {
  private readonly addresses: readonly string[];

  /** Throws AddressError for an address that can't be used. */
  constructor(addresses: readonly string[]) {
    const canonical = addresses.map((address) => formatAddress(parseAddress(address)));
    this.addresses = [...new Set(canonical)].sort();
  }

  start(onEndpoints: (addresses: readonly string[]) => void): void {
    onEndpoints(this.addresses);
  }

  stop(): void {}

  refresh(): void {}
}
