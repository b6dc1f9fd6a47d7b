/** Seals what a log stores, so that whoever reads the log learns nothing of requests and answers. */

export interface Sealer {
  seal(payload: Buffer): Buffer;
  /** Throws LogSetupError when no key opens it. */
  open(payload: Buffer): Buffer;
}

/** Without `bus.encrypt_key_file`. */
export const UNSEALED: Sealer = { seal: (payload) => payload, open: (payload) => payload };
