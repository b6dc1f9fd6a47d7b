/** Seals what a log stores, so that whoever reads the log learns nothing of requests and answers. */
import { LogSetupError } from '../log/log-errors.ts';

export interface Sealer {
  seal(payload: Buffer): Buffer;
  /** Throws MissingKeyError when no key opens it, and LogSetupError when somebody has changed it. */
  open(payload: Buffer): Buffer;
}

/** This sidecar lacks the key of a payload, or has one where others have none. Another sidecar may open it. */
export class MissingKeyError extends LogSetupError {}

/** How each sealed payload begins. */
export const SEAL_MARK = Buffer.from('OSL1', 'latin1');

export function isSealed(payload: Buffer): boolean {
  return payload.subarray(0, SEAL_MARK.length).equals(SEAL_MARK);
}

/** Without `bus.encrypt_key_file`. */
export const UNSEALED: Sealer = {
  seal: (payload) => payload,
  open: (payload) => {
    if (!isSealed(payload)) return payload;
    throw new MissingKeyError(
      'a payload on the bus is sealed, and bus.encrypt_key_file is not set: give this sidecar the file that the others have',
    );
  },
};
