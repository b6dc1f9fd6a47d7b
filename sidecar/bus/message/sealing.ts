/**
 * Seals payloads with AES-256-GCM, so that whoever reads the log learns nothing of requests and answers, and whoever writes
 * it can't invent any.
 *
 *     4 bytes: OSL2 │ 8: the key's id │ 16: salt │ segments: up to 64 KiB of the payload, encrypted │ 16: its tag
 *
 * Each payload has a key of its own, made of the salt: one key of the file then serves for more payloads than AES-GCM allows
 * under one key with random nonces (2^32). A segment's nonce is its number, and whether it is the last: none can be left out,
 * moved or cut off, and each is given to a reader only when its tag has proved it.
 */
import { createCipheriv, createDecipheriv, createHmac, hash, randomBytes } from 'node:crypto';
import { LogSetupError } from '../log/log-errors.ts';
import {
  isSealed,
  SEAL_MARK as MARK,
  MissingKeyError,
  type Opener,
  PlainOpener,
  type Sealer,
} from './sealer.ts';

const ID_BYTES = 8;
const SALT_BYTES = 16;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const SALT_AT = MARK.length + ID_BYTES;
const HEAD_BYTES = SALT_AT + SALT_BYTES;
const SEGMENT_BYTES = 65_536;
const CIPHER = 'aes-256-gcm';

const CHANGED = 'a payload on the bus was changed after it was sealed: drop its task';

export const KEY_BYTES = 32;

/** The keys of one file: the first seals, all of them open. */
export interface SealingKeys {
  readonly keys: readonly Buffer[];
  /** Also opens what was never sealed: for the time in which the first sidecars have keys and the last ones none. */
  readonly acceptsPlain: boolean;
}

export class KeySealer implements Sealer {
  private readonly first: { readonly id: Buffer; readonly key: Buffer };
  private readonly byId = new Map<string, Buffer>();
  private readonly acceptsPlain: boolean;

  constructor({ keys, acceptsPlain }: SealingKeys) {
    const [key] = keys;
    if (key === undefined) throw new LogSetupError('no key to seal with: the first line must be a key');
    this.first = { id: idOf(key), key };
    for (const known of keys) this.byId.set(idOf(known).toString('hex'), known);
    this.acceptsPlain = acceptsPlain;
  }

  seal(payload: Buffer): Buffer {
    const { id, key } = this.first;
    const segments = Math.max(1, Math.ceil(payload.length / SEGMENT_BYTES));
    const sealed = Buffer.allocUnsafeSlow(HEAD_BYTES + payload.length + segments * TAG_BYTES);
    MARK.copy(sealed);
    id.copy(sealed, MARK.length);
    randomBytes(SALT_BYTES).copy(sealed, SALT_AT);
    const head = sealed.subarray(0, HEAD_BYTES);
    const own = keyOf(key, head);
    for (let segment = 0, at = HEAD_BYTES; segment < segments; segment++) {
      const isLast = segment === segments - 1;
      const bytes = payload.subarray(segment * SEGMENT_BYTES, (segment + 1) * SEGMENT_BYTES);
      const cipher = createCipheriv(CIPHER, own, nonceOf(segment, isLast)).setAAD(head);
      cipher.update(bytes).copy(sealed, at);
      cipher.final();
      cipher.getAuthTag().copy(sealed, at + bytes.length);
      at += bytes.length + TAG_BYTES;
    }
    return sealed;
  }

  open(payload: Buffer): Buffer {
    const opener = this.opener();
    const opened = opener.add(payload);
    const rest = opener.end();
    return opened.length === 0 ? rest : Buffer.concat([opened, rest]);
  }

  opener(): Opener {
    return new SealedOpener((head) => this.openerOf(head));
  }

  /** Returns what opens a payload with these first bytes. */
  private openerOf(head: Buffer): Opener {
    if (!isSealed(head)) {
      if (this.acceptsPlain) return new PlainOpener(() => {});
      throw new MissingKeyError(
        'a payload on the bus is not sealed, and bus.encrypt_key_file is set: give all sidecars of the bus that file, and add a line "plain" to it until none is left',
      );
    }
    if (head.length < HEAD_BYTES) throw new LogSetupError(CHANGED);
    const id = head.subarray(MARK.length, SALT_AT).toString('hex');
    const key = this.byId.get(id);
    if (key === undefined)
      throw new MissingKeyError(
        `a payload on the bus is sealed with the key ${id}, which bus.encrypt_key_file does not have: give this sidecar the file that the others have`,
      );
    return new SegmentOpener(Buffer.from(head.subarray(0, HEAD_BYTES)), keyOf(key, head));
  }
}

/** Waits for the first bytes of a payload, which say how to open it. */
class SealedOpener implements Opener {
  private readonly choose: (head: Buffer) => Opener;
  private chosen: Opener | undefined = undefined;
  private head: Buffer = Buffer.alloc(0);

  constructor(choose: (head: Buffer) => Opener) {
    this.choose = choose;
  }

  add(piece: Buffer): Buffer {
    if (this.chosen !== undefined) return this.chosen.add(piece);
    this.head = this.head.length === 0 ? piece : Buffer.concat([this.head, piece]);
    return this.head.length < HEAD_BYTES ? Buffer.alloc(0) : this.begin();
  }

  end(): Buffer {
    if (this.chosen !== undefined) return this.chosen.end();
    const first = this.begin();
    const rest = this.chosen!.end();
    return first.length === 0 ? rest : first;
  }

  private begin(): Buffer {
    const { head } = this;
    this.chosen = this.choose(head);
    this.head = Buffer.alloc(0);
    return this.chosen.add(head);
  }
}

class SegmentOpener implements Opener {
  private readonly head: Buffer;
  private readonly key: Buffer;
  private waiting: Buffer;
  private segment = 0;
  private isHeadThere = false;

  constructor(head: Buffer, key: Buffer) {
    this.head = head;
    this.key = key;
    this.waiting = Buffer.alloc(0);
  }

  add(piece: Buffer): Buffer {
    const bytes = this.isHeadThere ? piece : piece.subarray(HEAD_BYTES);
    this.isHeadThere = true;
    this.waiting = this.waiting.length === 0 ? bytes : Buffer.concat([this.waiting, bytes]);
    const opened: Buffer[] = [];
    let at = 0;
    // One that ends with what is here may be the last.
    for (const whole = SEGMENT_BYTES + TAG_BYTES; this.waiting.length - at > whole; at += whole)
      opened.push(this.openSegment(this.waiting.subarray(at, at + whole), false));
    this.waiting = this.waiting.subarray(at);
    return opened.length === 1 ? opened[0]! : Buffer.concat(opened);
  }

  end(): Buffer {
    if (this.waiting.length < TAG_BYTES) throw new LogSetupError(CHANGED);
    return this.openSegment(this.waiting, true);
  }

  private openSegment(sealed: Buffer, isLast: boolean): Buffer {
    const end = sealed.length - TAG_BYTES;
    try {
      const decipher = createDecipheriv(CIPHER, this.key, nonceOf(this.segment++, isLast)).setAAD(this.head);
      decipher.setAuthTag(sealed.subarray(end));
      const opened = decipher.update(sealed.subarray(0, end));
      decipher.final();
      return opened;
    } catch (error) {
      throw new LogSetupError(CHANGED, error);
    }
  }
}

function nonceOf(segment: number, isLast: boolean): Buffer {
  const nonce = Buffer.alloc(NONCE_BYTES);
  nonce.writeUInt32BE(segment, NONCE_BYTES - 5);
  nonce[NONCE_BYTES - 1] = isLast ? 1 : 0;
  return nonce;
}

/** Says which key is which without giving anything of it away. */
function idOf(key: Buffer): Buffer {
  return Buffer.from(
    hash('sha256', Buffer.concat([Buffer.from('outrigger key id:'), key]), 'hex'),
    'hex',
  ).subarray(0, ID_BYTES);
}

/** The key of one payload. */
function keyOf(key: Buffer, sealed: Buffer): Buffer {
  return createHmac('sha256', key)
    .update('outrigger payload key:')
    .update(sealed.subarray(SALT_AT, HEAD_BYTES))
    .digest();
}
