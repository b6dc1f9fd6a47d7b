/** Endpoints as the configuration lists them. A name among them is resolved when it is connected to. */
import { formatAddress, parseAddress } from '../address.ts';
import type { Discovery } from './discovery.ts';

export class StaticDiscovery implements Discovery {
  readonly #addresses: readonly string[];

  /** Throws AddressError for an address that can't be used. */
  constructor(addresses: readonly string[]) {
    const canonical = addresses.map((address) => formatAddress(parseAddress(address)));
    this.#addresses = [...new Set(canonical)].sort();
  }

  start(onEndpoints: (addresses: readonly string[]) => void): void {
    onEndpoints(this.#addresses);
  }

  stop(): void {}

  refresh(): void {}
}
