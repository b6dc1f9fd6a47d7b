/** Seals what a log stores, so that whoever reads the log learns nothing of requests and answers. */
import { LogSetupError } from '../log/log-errors.ts';

export interface Sealer {
  seal(payload: Buffer): Buffer;
  /** Throws MissingKeyError when no key opens it, and LogSetupError when somebody has changed it. */
  open(payload: Buffer): Buffer;
  /** Opens one payload that comes in pieces. */
  opener(): Opener;
}

/** Opens a payload in pieces, as its sealer sealed it. Both methods throw as {@link Sealer.open}. */
export interface Opener {
  /** The next bytes of the payload that can be given, which may be none. */
  add(piece: Buffer): Buffer;
  /** The rest: there are no more pieces. */
  end(): Buffer;
}

/** This sidecar lacks the key of a payload, or has one where others have none. Another sidecar may open it. */
export class MissingKeyError extends LogSetupError {}

/** How each sealed payload begins. */
export const SEAL_MARK = Buffer.from('OSL2', 'latin1');

export function isSealed(payload: Buffer): boolean {
  return payload.subarray(0, SEAL_MARK.length).equals(SEAL_MARK);
}

/** Without `bus.encrypt_key_file`. */
export const UNSEALED: Sealer = {
  seal: (payload) => payload,
  open: unsealed,
  opener: () => new PlainOpener(unsealed),
};

function unsealed(payload: Buffer): Buffer {
  if (!isSealed(payload)) return payload;
  throw new MissingKeyError(
    'a payload on the bus is sealed, and bus.encrypt_key_file is not set: give this sidecar the file that the others have',
  );
}

/** Gives a payload that is not sealed as it comes. */
export class PlainOpener implements Opener {
  private readonly check: (start: Buffer) => void;
  private isFirst = true;

  /** @param check throws for a payload that must not begin so */
  constructor(check: (start: Buffer) => void) {
    this.check = check;
  }

  add(piece: Buffer): Buffer {
    if (this.isFirst) this.check(piece);
    this.isFirst = false;
    return piece;
  }

  end(): Buffer {
    return NOTHING;
  }
}

const NOTHING = Buffer.alloc(0);
