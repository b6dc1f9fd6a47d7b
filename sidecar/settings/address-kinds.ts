/** The kinds of addresses in settings. The code receives each in its canonical form (`formatAddress`). */
import { isIP } from 'node:net';
import * as z from 'zod';
import { formatAddress, NO_APP, parseAddress, readAddress } from '../net/address.ts';
import { type Complaint, checked, shared } from './kinds.ts';

const read = (text: string): string => formatAddress(readAddress(text));

/** An address to connect to. */
export function target() {
  const form = 'an address such as 10.0.0.7:50051 or unix:/run/agent.sock';
  return checked(z.string(), form, (value) => complaintAboutAddress(value, 'connect'), { read });
}

/** The address of the local app, or `none`. */
export function appTarget() {
  const form = `an address such as 10.0.0.7:50051 or unix:/run/agent.sock, or ${NO_APP}`;
  const complain = (value: string) =>
    value === NO_APP ? undefined : complaintAboutAddress(value, 'connect');
  return checked(z.string(), form, complain, {
    read: (value: string) => (value === NO_APP ? NO_APP : read(value)),
  });
}

/** A DNS name with a port. */
export function dnsTarget() {
  return checked(z.string(), 'a name with a port such as writing-agent-headless:50051', (value) => {
    if (!value.startsWith('unix:')) return complaintAboutAddress(value, 'connect');
    return { message: 'is a unix socket', remedy: 'write it in endpoints, or a DNS name with a port here' };
  });
}

/** An address to listen on; for port 0 the system picks a free port. */
export function listen() {
  const form = 'an address such as 127.0.0.1:15001 or unix:/run/x.sock';
  return shared('listen', () =>
    checked(z.string(), form, (value) => complaintAboutAddress(value, 'listen'), { read }),
  );
}

/** Returns what is wrong with an address and what to write instead, or `undefined` for a valid one. */
function complaintAboutAddress(text: string, use: 'connect' | 'listen'): Complaint | undefined {
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
