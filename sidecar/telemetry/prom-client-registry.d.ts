// prom-client's registry alone. The whole of prom-client also loads OpenTelemetry's API, a digest and HTTP clients:
// more than 60 ms and 16 MB for classes that are not used here. Its own types leave out what is used.
declare module 'prom-client/lib/registry.js' {
  export default class Registry {
    constructor(contentType: string);
    /** HELP, TYPE and a line for each value, without an end of the last line. */
    getMetricsAsString(metric: { get(): Promise<object> }): Promise<string>;
  }
}
