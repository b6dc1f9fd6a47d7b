/** Which addresses are of the public internet, and which no tool may ever reach. */
import { BlockList, isIP } from 'node:net';

/** IANA's special-purpose registries (RFC 6890): nothing of it is a public server. */
const special4 = [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 4],
  ['240.0.0.0', 4],
] as const;
const special6 = [
  ['2001::', 23],
  ['2001:db8::', 32],
  ['2002::', 16],
  ['3fff::', 20],
] as const;
/** Clouds answer with a machine's credentials here; no list of the operator's can allow it by accident. */
const never4 = [
  ['0.0.0.0', 8],
  ['169.254.0.0', 16],
  ['224.0.0.0', 4],
  ['240.0.0.0', 4],
  ['100.100.100.200', 32],
  ['168.63.129.16', 32],
] as const;
const never6 = [
  ['::', 128],
  ['fe80::', 10],
  ['ff00::', 8],
  ['fd00:ec2::254', 128],
  ['fd20:ce::254', 128],
] as const;

const special = listOf(special4, special6);
const never = listOf(never4, never6);
const global6 = new BlockList();
global6.addSubnet('2000::', 3, 'ipv6');

function listOf(
  v4: readonly (readonly [string, number])[],
  v6: readonly (readonly [string, number])[],
): BlockList {
  const list = new BlockList();
  for (const [network, bits] of v4) list.addSubnet(network, bits, 'ipv4');
  for (const [network, bits] of v6) list.addSubnet(network, bits, 'ipv6');
  return list;
}

/** An IPv4 address in IPv6's clothes (`::ffff:10.0.0.1`) is the IPv4 address. */
export function plainAddress(address: string): string {
  const [text = ''] = address.split('%');
  if (isIP(text) !== 6) return text;
  const canonical = new URL(`http://[${text}]/`).hostname.slice(1, -1);
  const mapped = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(canonical);
  if (mapped === null) return canonical;
  const bytes = [mapped[1]!, mapped[2]!].flatMap((part) => {
    const value = Number.parseInt(part, 16);
    return [value >> 8, value & 255];
  });
  return bytes.join('.');
}

export function familyOf(address: string): 'ipv4' | 'ipv6' {
  return isIP(address) === 4 ? 'ipv4' : 'ipv6';
}

/** @param address as `plainAddress` returns it */
export function isPublic(address: string): boolean {
  const family = familyOf(address);
  if (special.check(address, family)) return false;
  return family === 'ipv4' || global6.check(address, 'ipv6');
}

export function isForbidden(address: string): boolean {
  return never.check(address, familyOf(address));
}
