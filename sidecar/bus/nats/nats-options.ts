/** The options with which a log on NATS is opened. */
import type { TaskLogSettings } from '../log/task-log-settings.ts';

/** The servers, and how they are reached. */
export interface LinkOptions {
  /** `host:port`, or with `nats://` or `tls://` before it. */
  readonly servers: readonly string[];
  /** PEM files, read again at each connection; undefined for cleartext unless the server asks for TLS. */
  readonly tls?:
    | {
        readonly ca: string | undefined;
        readonly cert: string | undefined;
        readonly key: string | undefined;
      }
    | undefined;
  /** A `.creds` file as `nsc` writes it, read again at each connection. */
  readonly credentialsFile?: string | undefined;
  /** Instead of a file. */
  readonly user?: { readonly name: string; readonly password: string } | undefined;
  /** The publisher whose name `outrigger bus setup --permissions` was given; its answers then come to an inbox of its own. */
  readonly publisher?: string | undefined;
}

export interface NatsOptions extends LinkOptions {
  readonly settings: TaskLogSettings;
  /** Copies of each stream, where this log creates it. */
  readonly replicas?: number | undefined;
  /**
   * For `outrigger bus setup`: makes the queues of these agent types, and gives what is there the settings of this log. Sidecars
   * do not: theirs may differ.
   */
  readonly setUp?: { readonly agentTypes: readonly string[] } | undefined;
}
