/** Who may call the MCP listener: the bearer of a known key, or of a certificate that the given authority has signed. */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { TLSSocket } from 'node:tls';
import { type Environment, SettingError } from '../../process/environment.ts';
import type { McpSettings } from '../settings/mcp-settings.ts';

/** One caller: what tells it apart from others, with nothing secret in it. */
type Caller = string;

export interface Access {
  /** The caller of a request; undefined for one that may not call. */
  callerOf(request: IncomingMessage): Caller | undefined;
}

/**
 * @throws SettingError where neither keys nor an authority are configured, or a key is not there: a listener that runs programs
 * for everyone does not open
 */
export function createAccess({ keys, tls }: McpSettings, environment: Environment): Access {
  const known = keys.map(({ name, env }) => {
    const key = environment[env] ?? '';
    if (!/^[\x21-\x7e]{16,4096}$/.test(key)) {
      const problem = key === '' ? 'is not set' : 'must be 16 or more characters, without spaces';
      throw new SettingError(`tools.mcp.keys: ${env}, the key of "${name}", ${problem}`);
    }
    return { name, digest: digestOf(key) };
  });
  const byCertificate = tls?.ca !== undefined;
  if (known.length === 0 && !byCertificate) {
    throw new SettingError(
      'tools.mcp.listen needs tools.mcp.keys, or tools.mcp.tls with ca: it runs programs, and is open to nobody without a key or a certificate',
    );
  }
  return {
    callerOf(request) {
      // The handshake has checked it.
      const certificate = byCertificate ? nameOf(request.socket as TLSSocket) : undefined;
      if (byCertificate && certificate === undefined) return undefined;
      if (known.length === 0) return `certificate ${certificate}`;
      const given = keyOf(request);
      if (given === undefined) return undefined;
      const digest = digestOf(given);
      const match = known.find((each) => timingSafeEqual(each.digest, digest));
      return match === undefined ? undefined : `key ${match.name}`;
    },
  };
}

function digestOf(key: string): Buffer {
  return createHash('sha256').update(key).digest();
}

/** `Authorization: Bearer KEY`, or `X-Api-Key: KEY`. */
function keyOf({ headers }: IncomingMessage): string | undefined {
  const bearer = /^Bearer +(\S+)$/i.exec(headers.authorization ?? '')?.[1];
  const own = headers['x-api-key'];
  return bearer ?? (typeof own === 'string' ? own : undefined);
}

/** The certificate's names outlive its renewal. */
function nameOf(socket: TLSSocket): string | undefined {
  if (!socket.authorized) return undefined;
  const { subjectaltname, subject } = socket.getPeerCertificate();
  const name = subjectaltname || subject?.CN;
  return Array.isArray(name) ? name[0] : name || undefined;
}
