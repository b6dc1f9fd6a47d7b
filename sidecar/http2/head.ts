/** A decoded header list with the pseudo-header fields that a message must have (RFC 9113 §8.3). */
import { copyWithout, type HeaderList } from './hpack/header-list.ts';

declare module './hpack/header-list.ts' {
  interface ListViews {
    head: MessageHead;
  }
}

/**
 * The types of what others derive from a head, by names of their choice. A layer that fills {@link MessageHead.derived} adds
 * its type by module augmentation, so that HTTP/2 needs no import of it.
 *
 * @public
 */
// biome-ignore lint/suspicious/noEmptyInterface: layers above add to it.
export interface DerivedFacts {}

/** `trailers` are those of a response. */
export type HeadKind = 'request' | 'requestTrailers' | 'response' | 'trailers';

/**
 * The facts of a header list that HTTP/2 itself needs: the pseudo-header fields, and whether the list is well formed (RFC
 * 9113 §8.2 and §8.3). {@link headOf} derives them once for each decoded list and keeps them in its `view`.
 */
export class MessageHead {
  readonly kind: HeadKind;
  /** Why the message is malformed (§8.1.1); undefined if it is not. */
  malformed: string | undefined = undefined;
  /** The list to pass on, if the server has sent fields that HTTP/2 forbids and clients ignore. */
  passable: HeaderList | undefined = undefined;
  method = '';
  path = '';
  scheme = '';
  authority = '';
  status = 0;
  /** -1 without a content-length. */
  contentLength = -1;
  /** A slot for the layer above, for what it derives from the same list. */
  derived: DerivedFacts[keyof DerivedFacts] | undefined = undefined;

  constructor(kind: HeadKind) {
    this.kind = kind;
  }
}

/** Returns the head of a list, from its `view` if the decoder has returned the same list before. */
export function headOf(list: HeaderList, kind: HeadKind): MessageHead {
  const known = list.view;
  if (known !== undefined && known.kind === kind) return known;
  const head = new MessageHead(kind);
  head.malformed = examine(list, head);
  list.view = head;
  return head;
}

/** RFC 9113 §8.2.1 allows these characters in a lower-case field name (RFC 9110 §5.6.2's token without A-Z). */
const NAME_CHARS = new Uint8Array(256);
for (const char of "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz") NAME_CHARS[char.charCodeAt(0)] = 1;

/**
 * Characters that end a line or a string in HTTP/1 and in C (§8.2.1). White space at a value's ends is malformed, too, but
 * servers send it, and grammars above HTTP/2 allow it: we pass it on unchanged.
 */
const BAD_VALUE = /[\0\r\n]/;
/** Control characters except HTAB are invalid, too (RFC 9110 §5.5). Clients accept them from servers. */
const BAD_REQUEST_VALUE = /[^\t -~\x80-\uffff]/;
const WHITE_EDGE = /^[ \t]|[ \t]$/;

function isFieldName(name: string): boolean {
  if (name.length === 0) return false;
  for (let i = 0; i < name.length; i++) {
    if (NAME_CHARS[name.charCodeAt(i)] !== 1) return false;
  }
  return true;
}

function examine(list: HeaderList, head: MessageHead): string | undefined {
  const fields = list.fields;
  const fromServer = head.kind === 'response' || head.kind === 'trailers';
  const badValue = fromServer ? BAD_VALUE : BAD_REQUEST_VALUE;
  let regular = false;
  let seen = 0;
  let forbidden: Set<string> | undefined;
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i]!;
    const value = fields[i + 1]!;
    if (badValue.test(value)) return `the value of ${printable(name)} has a forbidden character`;
    if (name.charCodeAt(0) === 0x3a /* : */) {
      if (head.kind === 'trailers') {
        (forbidden ??= new Set()).add(name);
        continue;
      }
      if (WHITE_EDGE.test(value)) return `the value of ${printable(name)} has white space at its ends`;
      if (regular) return 'a pseudo-header field follows a regular one';
      const bit = pseudo(head, name, value);
      if (bit === 0) return `${printable(name)} is not a pseudo-header field of ${head.kind}`;
      if ((seen & bit) !== 0) return `${name} appears twice`;
      seen |= bit;
      continue;
    }
    regular = true;
    if (!isFieldName(name)) return `the field name ${printable(name)} is not a lower-case token`;
    const fault = regularField(head, name, value);
    if (fault === undefined) continue;
    if (!fromServer) return fault;
    (forbidden ??= new Set()).add(name);
  }
  if (forbidden !== undefined && !list.oversize) leaveOut(head, list, forbidden);
  // A request that was cut for its size is too large, and not malformed.
  return list.oversize && head.kind === 'request' ? undefined : missing(head, seen);
}

const METHOD = 1;
const SCHEME = 2;
const AUTHORITY = 4;
const PATH = 8;
const STATUS = 16;

/** Stores a pseudo-header field. @returns its bit; 0 if this kind of message may not have it (RFC 9113 §8.3) */
function pseudo(head: MessageHead, name: string, value: string): number {
  if (head.kind === 'request') {
    switch (name) {
      case ':method':
        head.method = value;
        return METHOD;
      case ':scheme':
        head.scheme = value;
        return SCHEME;
      case ':authority':
        head.authority = value;
        return AUTHORITY;
      case ':path':
        head.path = value;
        return PATH;
      default:
        return 0;
    }
  }
  if (head.kind === 'response' && name === ':status') {
    head.status = /^[1-9]\d\d$/.test(value) ? Number(value) : 0;
    return STATUS;
  }
  return 0;
}

/**
 * Reads a field. A request with a wrong field is malformed. Clients ignore a wrong field of a response, so that without a
 * relay the call would succeed.
 *
 * @returns why the field is wrong, if it is
 */
function regularField(head: MessageHead, name: string, value: string): string | undefined {
  switch (name) {
    case 'connection':
    case 'keep-alive':
    case 'proxy-connection':
    case 'transfer-encoding':
    case 'upgrade':
      return `${name} is a field of HTTP/1.1 (RFC 9113 §8.2.2)`;
    case 'te':
      // It describes what a client accepts, and means nothing in a response.
      return head.kind !== 'request' || value.trim() === 'trailers'
        ? undefined
        : 'te may only have the value trailers (RFC 9113 §8.2.2)';
    case 'content-length': {
      const digits = value.trim();
      const length = /^\d{1,15}$/.test(digits) ? Number(digits) : -1;
      if (length < 0) return 'content-length is not a number';
      if (head.contentLength >= 0 && head.contentLength !== length) return 'two content-length fields differ';
      head.contentLength = length;
      return undefined;
    }
    case 'host':
      if (head.authority === '') head.authority = value.trim();
      return undefined;
    default:
      return undefined;
  }
}

/** Prepares a list without the forbidden fields, which a relay must not send (§8.2.2), whatever its peer sends. */
function leaveOut(head: MessageHead, list: HeaderList, forbidden: ReadonlySet<string>): void {
  if (forbidden.has('content-length')) head.contentLength = -1;
  head.passable = copyWithout(list, (name) => forbidden.has(name));
}

function missing(head: MessageHead, seen: number): string | undefined {
  if (head.kind === 'trailers' || head.kind === 'requestTrailers') return undefined;
  if (head.kind === 'response') {
    if (head.status === 0) return ':status is missing or not a status';
    return head.status === 101 ? 'HTTP/2 has no 101 (RFC 9113 §8.6)' : undefined;
  }
  if ((seen & METHOD) === 0 || head.method === '') return ':method is missing';
  if (head.method === 'CONNECT') {
    // RFC 9113 §8.5
    return (seen & (SCHEME | PATH)) !== 0 ? 'CONNECT must not have :scheme or :path' : undefined;
  }
  if ((seen & SCHEME) === 0) return ':scheme is missing';
  if ((seen & PATH) === 0 || head.path === '') return ':path is missing';
  const first = head.path.charCodeAt(0);
  if (first !== 0x2f /* / */ && !(head.path === '*' && head.method === 'OPTIONS'))
    return ':path does not begin with a slash';
  return undefined;
}

function printable(name: string): string {
  return JSON.stringify(name.slice(0, 64));
}
