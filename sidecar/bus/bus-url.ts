/** Reads `bus.url`: which engine it names, and where the tasks are. Pure. */

/** `local`: one file, shared by the processes of this machine. `nats`: servers of one NATS cluster. */
export type BusPlace =
  | { readonly engine: 'local'; readonly path: string }
  | { readonly engine: 'nats'; readonly servers: readonly string[] };

/** Says what is wrong with a URL, and what to write instead. */
interface Wrong {
  readonly message: string;
  readonly remedy: string;
}

const DEFAULT_NATS_PORT = 4222;
const MAX_SERVERS = 64;
const FORM = 'write file:/var/lib/outrigger/tasks.db, or nats://HOST:4222 with further servers after commas';

/** @returns the place, or what is wrong with the text */
export function readBusUrl(text: string): BusPlace | Wrong {
  if (text.startsWith('file:')) return readFile(text.slice('file:'.length));
  if (/^(nats|tls):\/\//.test(text)) return readServers(text);
  return { message: 'names no bus', remedy: FORM };
}

/** The place of a URL of a valid configuration. */
export function busPlace(url: string): BusPlace {
  const read = readBusUrl(url);
  if ('engine' in read) return read;
  throw new Error(`bus.url ${read.message}; ${read.remedy}`);
}

function readFile(rest: string): BusPlace | Wrong {
  const path = rest.startsWith('//') ? rest.slice(2) : rest;
  if (!path.startsWith('/')) {
    const remedy = 'write an absolute path: file:/var/lib/outrigger/tasks.db';
    return { message: 'is relative to a folder that differs from process to process', remedy };
  }
  if (path.endsWith('/')) return { message: 'is a folder', remedy: 'add the name of a file: tasks.db' };
  return { engine: 'local', path };
}

function readServers(text: string): BusPlace | Wrong {
  const parts = text.split(',');
  if (parts.length > MAX_SERVERS)
    return {
      message: `names ${parts.length} servers`,
      remedy: `name at most ${MAX_SERVERS}; they tell of the rest`,
    };
  const servers: string[] = [];
  for (const part of parts) {
    const scheme = part.trim().startsWith('tls://') ? 'tls://' : '';
    const server = part.trim().replace(/^(nats|tls):\/\//, '');
    const url = URL.canParse(`nats://${server}`) ? new URL(`nats://${server}`) : undefined;
    if (url === undefined || url.hostname === '' || /[/?#]/.test(server.replace(/\/$/, '')))
      return { message: 'has a server that is no HOST:PORT', remedy: FORM };
    // The configuration is shown on pages and in logs.
    if (url.username !== '' || url.password !== '')
      return {
        message: 'has credentials in it',
        remedy: 'put them in a file, and name it in bus.credentials_file',
      };
    servers.push(`${scheme}${url.hostname}:${url.port === '' ? DEFAULT_NATS_PORT : url.port}`);
  }
  return { engine: 'nats', servers };
}

/** Whether the log knows by credentials of its own who publishes, or every publisher is believed. */
export function isVerified({ url, credentialsFile, tls, trustPublishers }: Identified): boolean {
  if (trustPublishers) return true;
  const isOwn = credentialsFile !== undefined || tls?.cert !== undefined;
  return url !== undefined && busPlace(url).engine === 'nats' && isOwn;
}

interface Identified {
  readonly url: string | undefined;
  readonly credentialsFile: string | undefined;
  readonly tls: { readonly cert: string | undefined } | undefined;
  readonly trustPublishers: boolean;
}
