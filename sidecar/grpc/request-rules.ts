/**
 * What gRPC asks of a request's head (PROTOCOL-HTTP2, "Requests"). Nothing is refused by it here: servers differ in what
 * they bear, and each shall have what its caller has sent. It says whose fault it may be that one refuses.
 */
import { type HeaderList, trimmed } from '../http2/hpack/header-list.ts';

/** Every implementation reads these; of another one C-core's servers say INTERNAL, where UNIMPLEMENTED is asked for. */
const COMMON_ENCODINGS: ReadonlySet<string> = new Set(['identity', 'gzip', 'deflate']);

/** Whether the head keeps to the rules that servers go by, which is not said of its content-type. */
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
      return value.startsWith('/');
    case 'te':
      return value === 'trailers';
    case 'grpc-encoding':
      return COMMON_ENCODINGS.has(value);
    case ':authority':
      return true;
    default:
      // "Header-Name", and "Binary-Header" with a list of values.
      return /^[\d_.a-z-]+$/.test(name) && (!name.endsWith('-bin') || /^[\d+/=A-Za-z, ]*$/.test(value));
  }
}
