/** The identity that the peer has proved with its certificate. */
export interface PeerIdentity {
  /** The name for logs, limits and everything that we keep for the peer. */
  readonly name: string;
  /** All URI and DNS names of the certificate. */
  readonly names: readonly string[];
}
