/**
 * Follows the addresses of a provider's name: those that its DNS has stopped naming get no new requests. It looks the name up
 * while the provider is used, and no more often than `everyMs`.
 */
import type { LookupAddress } from 'node:dns';
import { isIP } from 'node:net';

export type Lookup = (
  hostname: string,
  options: { all: true },
  callback: (error: Error | null, addresses: LookupAddress[]) => void,
) => void;

/** DNS may name a few of many addresses at a time: one that misses twice in a row is gone. */
const MISSES = 2;
/** Connections to an address that is gone for so many looks have ended or are too old to be kept. */
const FORGOTTEN = 100;

export class AddressWatch {
  /** How often in a row each address was missing. */
  private readonly misses = new Map<string, number>();
  private readonly hostname: string;
  private readonly lookup: Lookup;
  private readonly onGone: () => void;
  private dueMs = 0;
  private looks = false;
  everyMs: number;

  /** @param everyMs 0 is never */
  constructor(hostname: string, everyMs: number, lookup: Lookup, onGone: () => void) {
    this.hostname = hostname;
    this.everyMs = everyMs;
    this.lookup = lookup;
    this.onGone = onGone;
  }

  isGone(address: string | undefined): boolean {
    return address !== undefined && (this.misses.get(address) ?? 0) >= MISSES;
  }

  /** There is a connection to the address. */
  note(address: string | undefined): void {
    if (address !== undefined && !this.misses.has(address)) this.misses.set(address, 0);
  }

  /** The provider is used now: looks its name up when that is due. */
  touch(nowMs: number): void {
    if (this.everyMs === 0 || this.looks || nowMs < this.dueMs || isIP(this.hostname) !== 0) return;
    const isFirst = this.dueMs === 0;
    this.dueMs = nowMs + this.everyMs;
    // The first connection is about to look it up by itself.
    if (isFirst) return;
    this.looks = true;
    this.lookup(this.hostname, { all: true }, (error, addresses) => {
      this.looks = false;
      // A failure of DNS says nothing about the addresses.
      if (error === null && addresses.length > 0) this.compare(addresses);
    });
  }

  private compare(addresses: readonly LookupAddress[]): void {
    const now = new Set(addresses.map(({ address }) => address));
    let isNew = false;
    for (const [address, misses] of this.misses) {
      if (now.has(address)) this.misses.set(address, 0);
      else if (misses >= FORGOTTEN) this.misses.delete(address);
      else {
        this.misses.set(address, misses + 1);
        isNew ||= misses + 1 === MISSES;
      }
    }
    if (isNew) this.onGone();
  }
}
