/** The hosts and addresses that tools may reach. */
import { BlockList, isIP } from 'node:net';
import { SettingError } from '../../process/environment.ts';
import { familyOf, isForbidden, isPublic, plainAddress } from './addresses.ts';

/** Why a request goes nowhere. */
export class NotAllowed extends Error {
  override readonly name = 'NotAllowed';
}

/** The ports of an entry without one. */
const usualPorts: readonly number[] = [80, 443];

interface NameEntry {
  /** Without a leading `*.`. */
  name: string;
  withSubdomains: boolean;
  port: number | undefined;
}

interface NetworkEntry {
  network: BlockList;
  port: number | undefined;
}

/**
 * A name (`example.com`, `*.example.com`) allows that host at public addresses; an address or a network (`10.1.2.3:8080`,
 * `10.0.0.0/8`) allows those addresses, also for allowed names that resolve to them. An entry without a port means 80 and 443.
 */
export class AllowList {
  private readonly names: NameEntry[] = [];
  private readonly networks: NetworkEntry[] = [];

  /** @throws SettingError for an entry that can't be read */
  constructor(entries: readonly string[]) {
    for (const entry of entries) this.add(entry);
  }

  get isEmpty(): boolean {
    return this.names.length + this.networks.length === 0;
  }

  /** @throws NotAllowed where no entry names the host, before anything is resolved */
  checkHost(host: string, port: number): void {
    const address = literal(host);
    if (address !== undefined) {
      this.checkAddress(host, address, port);
      return;
    }
    const name = host.toLowerCase().replace(/\.$/, '');
    const isNamed = this.names.some(
      (entry) =>
        (entry.withSubdomains ? name.endsWith(`.${entry.name}`) : name === entry.name) &&
        allows(entry.port, port),
    );
    if (!isNamed) throw new NotAllowed(`${name}:${port} is not in tools.network.allow`);
  }

  /** @throws NotAllowed for an address that the host must not have */
  checkAddress(host: string, resolved: string, port: number): void {
    const address = plainAddress(resolved);
    if (isForbidden(address))
      throw new NotAllowed(`${host} has the address ${address}, which no tool may reach`);
    if (literal(host) === undefined && isPublic(address)) return;
    const isListed = this.networks.some(
      (entry) => allows(entry.port, port) && entry.network.check(address, familyOf(address)),
    );
    if (isListed) return;
    throw new NotAllowed(
      literal(host) === undefined
        ? `${host} has the address ${address}, which is not public and not in tools.network.allow`
        : `the address ${address}:${port} is not in tools.network.allow`,
    );
  }

  private add(entry: string): void {
    const match = /^(\[[^\]]+\](?:\/\d+)?|[^:]+|[0-9a-fA-F:]+(?:\/\d+)?)(?::(\d{1,5}))?$/.exec(entry);
    const port = match?.[2] === undefined ? undefined : Number(match[2]);
    const [host = '', bits] = (match?.[1] ?? '').replace(/[[\]]/g, '').split('/');
    if (isIP(host) !== 0) {
      const family = familyOf(host);
      const network = new BlockList();
      const longest = family === 'ipv4' ? 32 : 128;
      const length = bits === undefined ? longest : Number(bits);
      if (!(length >= 0 && length <= longest)) throw unreadable(entry);
      network.addSubnet(host, length, family);
      this.networks.push({ network, port });
      return;
    }
    const isName = /^(\*\.)?([a-z0-9_]([a-z0-9_-]*[a-z0-9_])?\.)*[a-z0-9]([a-z0-9-]*[a-z0-9])?$/i.test(host);
    if (!isName || bits !== undefined || (port !== undefined && port > 65_535)) throw unreadable(entry);
    const withSubdomains = host.startsWith('*.');
    this.names.push({ name: host.replace('*.', '').toLowerCase(), withSubdomains, port });
  }
}

function allows(wanted: number | undefined, port: number): boolean {
  return wanted === undefined ? usualPorts.includes(port) : wanted === port;
}

/** The address where a host of a URL is one. */
function literal(host: string): string | undefined {
  const text = host.replace(/^\[|\]$/g, '');
  return isIP(text) === 0 ? undefined : plainAddress(text);
}

function unreadable(entry: string): SettingError {
  return new SettingError(
    `tools.network.allow: "${entry}" must be a host, *.domain, an address or a network, each with :port if only that port`,
  );
}
