/**
 * gRPC's rules for a request's head (PROTOCOL-HTTP2, "Requests"). The sidecar refuses no request by them: servers
 * differ in what they accept, and each shall receive what its caller sent. The rules show whether the caller may be at
 * fault when a server refuses.
 */
import { type HeaderList, trimmed } from '../http2/hpack/header-list.ts';

/**
 * Every implementation reads these. For another encoding C-core's servers answer INTERNAL, where gRPC requires
 * UNIMPLEMENTED.
 */
const COMMON_ENCODINGS: ReadonlySet<string> = new Set(['identity', 'gzip', 'deflate']);

/** A path as gRPC writes it: a slash, and characters that a URI may have (RFC 3986 §3.3). HTTP/2 libraries reset others. */
const PATH = /^\/[!-~]*$/;
/** The characters of a host with a port (RFC 3986 §3.2). HTTP/2 libraries reset others. */
const AUTHORITY = /^[\w.~!$&'()*+,;=:@%[\]-]*$/;

/** Whether the head follows the rules that servers check, except the rule on content-type. */
export function followsRequestRules({ fields }: HeaderList): boolean {
  let te = false;
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i]!;
    const value = trimmed(fields[i + 1]!);
    if (!followsRule(name, value)) return false;
    te ||= name === 'te';
  }
  return te;
}

function followsRule(name: string, value: string): boolean {
  switch (name) {
    case ':method':
      return value === 'POST';
    case ':scheme':
      return value === 'http' || value === 'https';
    case ':path':
      return PATH.test(value);
    case 'te':
      return value === 'trailers';
    case 'grpc-encoding':
      return COMMON_ENCODINGS.has(value);
    case ':authority':
      return AUTHORITY.test(value);
    default:
      // "Header-Name", and "Binary-Header" with a list of values.
      return /^[\d_.a-z-]+$/.test(name) && (!name.endsWith('-bin') || /^[\d+/=A-Za-z, ]*$/.test(value));
  }
}
