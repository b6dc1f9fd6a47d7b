/**
 * Reads a peer's identities from its certificate: the URI and DNS names of its subjectAltName (RFC 5280 §4.2.1.6), which
 * holds the SPIFFE ID, too. The common name is ignored. {@link AllowList} compares them with the configured patterns.
 */
import type { X509Certificate } from 'node:crypto';

/** The most names that we read of one certificate; no workload's certificate has more. */
const MAX_NAMES = 64;

/** Returns `spiffe://…` and other URIs unchanged, DNS names in lower case; SPIFFE IDs first. */
export function identitiesOf(certificate: Pick<X509Certificate, 'subjectAltName'>): readonly string[] {
  const uris: string[] = [];
  const names: string[] = [];
  for (const entry of splitNames(certificate.subjectAltName ?? '')) {
    if (entry.startsWith('URI:')) uris.push(unquote(entry.slice(4)));
    else if (entry.startsWith('DNS:')) names.push(unquote(entry.slice(4)).toLowerCase());
  }
  const spiffe = uris.filter(isSpiffe);
  const others = uris.filter((uri) => !isSpiffe(uri));
  return [...spiffe, ...others, ...names].filter((name) => name !== '').slice(0, MAX_NAMES);
}

function isSpiffe(uri: string): boolean {
  return uri.startsWith('spiffe://');
}

/** Node writes `URI:a, DNS:b`, and quotes a value that has a comma or quote as a JSON string, so no value can forge a name. */
function splitNames(text: string): string[] {
  const entries: string[] = [];
  let from = 0;
  let quoted = false;
  for (let at = 0; at < text.length; at++) {
    const character = text[at];
    if (quoted && character === '\\') at++;
    else if (character === '"') quoted = !quoted;
    else if (!quoted && character === ',') {
      entries.push(text.slice(from, at).trim());
      from = at + 1;
    }
  }
  if (from < text.length) entries.push(text.slice(from).trim());
  return entries;
}

function unquote(value: string): string {
  if (!value.startsWith('"')) return value;
  try {
    return String(JSON.parse(value));
  } catch {
    return '';
  }
}

/** Returns why a pattern can't be used, or undefined when it can. */
export function complaintAboutIdentity(pattern: string): string | undefined {
  if (/[\s,"]/.test(pattern)) return 'has a blank, a comma or a quote in it';
  const segments = segmentsOf(pattern);
  if (segments === undefined) return dnsComplaint(pattern);
  const [authority, ...path] = segments;
  if (authority === '') return 'has no trust domain behind ://';
  if (authority!.includes('*')) return 'has a * in its trust domain, which must be written out';
  const wrong = path.find((segment, index) => {
    if (segment === '**') return index !== path.length - 1;
    return segment !== '*' && segment.includes('*');
  });
  return wrong === undefined ? undefined : `has a * within "${wrong}": it stands for a whole segment`;
}

function dnsComplaint(pattern: string): string | undefined {
  const [first, ...rest] = pattern.split('.');
  const labels = first === '*' ? rest : [first!, ...rest];
  if (first === '*' && rest.length < 2) return 'would let in every name of a top-level domain';
  const right = labels.every((label) => /^[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?$/i.test(label));
  return right ? undefined : 'is neither a URI nor a DNS name';
}

/** Returns the trust domain and the path segments of a URI; undefined for a DNS name. */
function segmentsOf(identity: string): readonly string[] | undefined {
  const at = identity.indexOf('://');
  return at < 0 ? undefined : identity.slice(at + 3).split('/');
}

/**
 * The allow list of a listener or cluster. A pattern is an identity, with wildcards for whole parts only:
 *
 * - in a URI `*` is one path segment, and `**` at the end is one or more: `spiffe://example.org/ns/agents/sa/*`;
 *   scheme and trust domain must be written out;
 * - in a DNS name `*` is the first label, and only that one: `*.agents.svc` takes `a.agents.svc`, not `b.a.agents.svc`.
 */
export class AllowList {
  readonly patterns: readonly string[];
  private readonly exact: ReadonlySet<string>;
  private readonly wild: readonly string[];

  constructor(patterns: readonly string[]) {
    this.patterns = patterns;
    const normal = patterns.map((pattern) => (pattern.includes('://') ? pattern : pattern.toLowerCase()));
    this.exact = new Set(normal.filter((pattern) => !pattern.includes('*')));
    this.wild = normal.filter((pattern) => pattern.includes('*'));
  }

  /** An empty list allows every peer with a valid certificate. */
  get empty(): boolean {
    return this.patterns.length === 0;
  }

  /** Returns the first of the identities that is on the list. */
  match(identities: readonly string[]): string | undefined {
    return identities.find(
      (identity) => this.exact.has(identity) || this.wild.some((pattern) => matches(pattern, identity)),
    );
  }
}

/**
 * What a `*` matches: a label of a DNS name, or a segment of a path (RFC 3986, `pchar`). Neither has a NUL or a blank: C
 * code or the reader of a log would take such a name for another one.
 */
const LABEL = /^[a-z0-9_*-]+$/i;
const SEGMENT = /^[\w.~!$&'()*+,;=:@%-]+$/;

function matches(pattern: string, identity: string): boolean {
  const wanted = segmentsOf(pattern);
  const given = segmentsOf(identity);
  if (wanted === undefined || given === undefined) {
    if (wanted !== given) return false;
    // The first label must have at least one character.
    const dot = identity.indexOf('.');
    return identity.slice(dot) === pattern.slice(1) && LABEL.test(identity.slice(0, dot));
  }
  if (pattern.slice(0, pattern.indexOf('://')) !== identity.slice(0, identity.indexOf('://'))) return false;
  const open = wanted.at(-1) === '**';
  const fixed = open ? wanted.slice(0, -1) : wanted;
  if (open ? given.length <= fixed.length : given.length !== fixed.length) return false;
  if (given.some((segment, index) => index > 0 && (!SEGMENT.test(segment) || /^\.\.?$/.test(segment))))
    return false;
  return fixed.every((segment, index) =>
    segment === '*' && index > 0 ? given[index] !== '' : segment === given[index],
  );
}
