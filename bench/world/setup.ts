// The setup that starts a target, and the target once it runs.
import type { TrafficOptions } from '../traffic/options.ts';
import type { Cleanup } from './cleanup.ts';

export interface TlsFiles {
  cert: string;
  key: string;
  ca: string;
}

export interface Setup {
  cleanup: Cleanup;
  /** For configurations. */
  folder: string;
  /** `HOST:PORT` of each upstream endpoint. */
  endpoints: readonly string[];
  /** Callers must show a certificate. */
  downstreamTls?: TlsFiles;
  /** The upstream asks for a certificate. */
  upstreamTls?: TlsFiles;
  tracing?: { percent: number; collectorPort: number };
  /** Of the sidecar's configuration: keys of its inbound listener, and of its cluster. */
  inbound?: object;
  cluster?: object;
  /** The sidecar as the image has it, and not from its sources. */
  image?: boolean;
  /** Another checkout's sidecar, by the folder of that checkout; this one's when absent. */
  checkout?: string;
  /** For Node, before the program: `--cpu-prof` and the like. */
  nodeArgs?: readonly string[];
}

export interface Target {
  name: string;
  port: number;
  /** The processes whose CPU time and memory count; none for the upstream itself. */
  pids: readonly number[];
  /** From the start of the process to its first accepted connection, or until it says that it is ready. */
  readyMs?: number;
  metricsPort?: number;
  /** The output of the process so far. */
  logs?: () => string;
  /** Ends it before the cleanup does. */
  stop: () => Promise<void>;
  /** How it has to be called. */
  traffic?: Pick<TrafficOptions, 'tls'>;
}
