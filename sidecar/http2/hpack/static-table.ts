/**
 * The static table of RFC 7541 Appendix A, and what its order gives: an entry's index is its place here, and
 * the entries of one name stand together, so the first of them is the index to name it by.
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

/** A name of the static table: the index that names it, and the index of each value it is listed with. */
export interface StaticName {
  readonly index: number;
  readonly values: ReadonlyMap<string, number>;
}

/** Name and value by index; index 0 is not an entry (RFC 7541 §6.1 makes it an error) and holds ''. */
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

/** The last index of the static table; the dynamic table's newest entry is the one after it (§2.3.3). */
export const STATIC_ENTRIES = staticNames.length - 1;
