/** Who the peer has proved to be, by its certificate. */
export interface PeerIdentity {
  /** The one that goes into logs, limits and whatever is kept for it. */
  readonly name: string;
  /** All URI and DNS names of the certificate. */
  readonly names: readonly string[];
}
