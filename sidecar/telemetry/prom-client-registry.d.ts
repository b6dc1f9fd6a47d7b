// prom-client's registry alone. The whole of prom-client also loads OpenTelemetry's API, a digest and HTTP clients:
// more than 60 ms and 16 MB for classes that are not used here.
declare module 'prom-client/lib/registry.js' {
  import { Registry } from 'prom-client';
  export default Registry;
}
