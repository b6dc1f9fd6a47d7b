/**
 * The static table of RFC 7541 Appendix A. The index of an entry is its place. The entries of one name are consecutive, so the
 * first one's index stands for the name.
 */
const ENTRIES: readonly (readonly [name: string, ...values: string[]])[] = [
  [':authority', ''],
  [':method', 'GET', 'POST'],
  [':path', '/', '/index.html'],
  [':scheme', 'http', 'https'],
  [':status', '200', '204', '206', '304', '400', '404', '500'],
  ['accept-charset', ''],
  ['accept-encoding', 'gzip, deflate'],
  ['accept-language', ''],
  ['accept-ranges', ''],
  ['accept', ''],
  ['access-control-allow-origin', ''],
  ['age', ''],
  ['allow', ''],
  ['authorization', ''],
  ['cache-control', ''],
  ['content-disposition', ''],
  ['content-encoding', ''],
  ['content-language', ''],
  ['content-length', ''],
  ['content-location', ''],
  ['content-range', ''],
  ['content-type', ''],
  ['cookie', ''],
  ['date', ''],
  ['etag', ''],
  ['expect', ''],
  ['expires', ''],
  ['from', ''],
  ['host', ''],
  ['if-match', ''],
  ['if-modified-since', ''],
  ['if-none-match', ''],
  ['if-range', ''],
  ['if-unmodified-since', ''],
  ['last-modified', ''],
  ['link', ''],
  ['location', ''],
  ['max-forwards', ''],
  ['proxy-authenticate', ''],
  ['proxy-authorization', ''],
  ['range', ''],
  ['referer', ''],
  ['refresh', ''],
  ['retry-after', ''],
  ['server', ''],
  ['set-cookie', ''],
  ['strict-transport-security', ''],
  ['transfer-encoding', ''],
  ['user-agent', ''],
  ['vary', ''],
  ['via', ''],
  ['www-authenticate', ''],
];

/** A name of the static table: its index, and the index of each of its values. */
export interface StaticName {
  readonly index: number;
  readonly values: ReadonlyMap<string, number>;
}

/** The name and value of each index; index 0 is no entry (RFC 7541 §6.1 makes it an error) and has ''. */
export const staticNames: string[] = [''];
export const staticValues: string[] = [''];

/** The static table by name. */
export const staticByName: ReadonlyMap<string, StaticName> = new Map(
  ENTRIES.map(([name, ...values]) => {
    const index = staticNames.length;
    for (const value of values) {
      staticNames.push(name);
      staticValues.push(value);
    }
    return [name, { index, values: new Map(values.map((value, nth) => [value, index + nth])) }];
  }),
);

/** The last index of the static table; the dynamic table's newest entry has the next one (§2.3.3). */
export const STATIC_ENTRIES = staticNames.length - 1;
