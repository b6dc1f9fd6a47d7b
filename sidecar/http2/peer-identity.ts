/** The identity that the peer has proved with its certificate. */
export interface PeerIdentity {
  /** The name for logs, limits and everything that we keep for the peer. */
  readonly name: string;
  /** All URI and DNS names of the certificate. */
  readonly names: readonly string[];
}

/**
 * For whom this process carries requests on a connection to itself. Its facts take the place of what header fields say; this
 * layer never reads them.
 */
export interface OnBehalf {
  /** Separates the callers of the requests from others. */
  readonly callerScope: string;
  /** Two requests may be the same one only if they have this in common. */
  readonly runScope: string;
}
