/** Finds the sidecars that `outrigger status` asks: by addresses, by a DNS name, or by a Service. */
import { lookup } from 'node:dns/promises';
import { TypedError } from '../../errors/typed-error.ts';
import { AddressError, formatHostPort, parseAddress } from '../../net/address.ts';
import type { Target } from '../ask.ts';

/** The metrics port: other pods can reach it, and the admin port they cannot. */
export const METRICS_PORT = 15_020;
/** A larger fleet does not fit on a screen; ask for a part of it. */
export const MAX_SIDECARS = 1_000;

/** One sidecar to ask. */
export interface Found {
  /** The address as the table shows it. */
  readonly address: string;
  /** The pod's name; '' where it is unknown. */
  readonly pod: string;
  readonly target: Target;
  /** The path of `/status` there. */
  readonly path: string;
}

/** The sidecars can not be found; the message says why and what to do. */
export class FleetError extends TypedError {
  override readonly name = 'FleetError';
  override readonly source = 'ours';
  override readonly isSafeToRetry = true;
}

/** @param text `host:port`, or a host alone; throws {@link AddressError} */
export function atAddress(text: string, port: number): Found {
  const where = parseAddress(withPort(text, port));
  if (where.kind === 'unix')
    return { address: text, pod: '', target: { socketPath: where.path }, path: '/status' };
  const { host } = where;
  const target = { host: host === '0.0.0.0' ? '127.0.0.1' : host, port: where.port };
  return { address: formatHostPort(host, where.port), pod: '', target, path: '/status' };
}

function withPort(text: string, port: number): string {
  if (text.startsWith('unix:') || /^\[.*\]:\d+$/.test(text)) return text;
  const colons = text.split(':').length - 1;
  if (colons === 0 || /^\[.*\]$/.test(text)) return `${text}:${port}`;
  return colons === 1 ? text : `[${text}]:${port}`;
}

/** Every address of the name, as a headless Service has them; throws {@link FleetError}. */
export async function byDns(name: string, port: number): Promise<Found[]> {
  const where = parseAddress(withPort(name, port));
  if (where.kind === 'unix')
    throw new AddressError(`${name} is no name; write a name such as research:15020`);
  try {
    const addresses = await lookup(where.host, { all: true });
    const unique = [...new Set(addresses.map(({ address }) => address))].sort();
    return unique.map((address) => atAddress(formatHostPort(address, where.port), port));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new FleetError(
      `${where.host} can not be resolved (${code}); check the name, and that it is asked from where it is known`,
      error,
    );
  }
}
