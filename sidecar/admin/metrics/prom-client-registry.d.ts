// prom-client's registry alone. The whole of prom-client also loads OpenTelemetry's API, a digest and HTTP clients:
// more than 60 ms and 16 MB for classes that we do not use. Its own types omit what we use.
declare module 'prom-client/lib/registry.js' {
  export default class Registry {
    constructor(contentType: string);
    /** HELP, TYPE and a line for each value; the last line has no line ending. */
    getMetricsAsString(metric: { get(): Promise<object> }): Promise<string>;
  }
}
