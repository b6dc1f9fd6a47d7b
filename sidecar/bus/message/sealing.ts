/**
 * Seals payloads with AES-256-GCM, so that whoever reads the log learns nothing of requests and answers, and whoever writes
 * it can't invent any.
 *
 *     4 bytes: OSL1 │ 8: the key's id │ 16: salt │ 12: nonce │ 16: tag │ the payload, encrypted
 *
 * Each payload has a key of its own, made of the salt: one key of the file then serves for more payloads than AES-GCM allows
 * under one key with random nonces (2^32).
 */
import { createCipheriv, createDecipheriv, createHmac, hash, randomBytes } from 'node:crypto';
import { LogSetupError } from '../log/log-errors.ts';
import { isSealed, SEAL_MARK as MARK, MissingKeyError, type Sealer } from './sealer.ts';

const ID_BYTES = 8;
const SALT_BYTES = 16;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const SALT_AT = MARK.length + ID_BYTES;
const NONCE_AT = SALT_AT + SALT_BYTES;
const TAG_AT = NONCE_AT + NONCE_BYTES;
const HEAD_BYTES = TAG_AT + TAG_BYTES;
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
    const sealed = Buffer.allocUnsafe(HEAD_BYTES + payload.length);
    MARK.copy(sealed);
    id.copy(sealed, MARK.length);
    randomBytes(SALT_BYTES + NONCE_BYTES).copy(sealed, SALT_AT);
    const cipher = createCipheriv(CIPHER, keyOf(key, sealed), sealed.subarray(NONCE_AT, TAG_AT));
    cipher.setAAD(sealed.subarray(0, NONCE_AT));
    cipher.update(payload).copy(sealed, HEAD_BYTES);
    cipher.final();
    cipher.getAuthTag().copy(sealed, TAG_AT);
    return sealed;
  }

  open(payload: Buffer): Buffer {
    if (!isSealed(payload)) {
      if (this.acceptsPlain) return payload;
      throw new MissingKeyError(
        'a payload on the bus is not sealed, and bus.encrypt_key_file is set: give all sidecars of the bus that file, and add a line "plain" to it until none is left',
      );
    }
    if (payload.length < HEAD_BYTES) throw new LogSetupError(CHANGED);
    const id = payload.subarray(MARK.length, SALT_AT).toString('hex');
    const key = this.byId.get(id);
    if (key === undefined)
      throw new MissingKeyError(
        `a payload on the bus is sealed with the key ${id}, which bus.encrypt_key_file does not have: give this sidecar the file that the others have`,
      );
    try {
      const decipher = createDecipheriv(CIPHER, keyOf(key, payload), payload.subarray(NONCE_AT, TAG_AT));
      decipher.setAAD(payload.subarray(0, NONCE_AT));
      decipher.setAuthTag(payload.subarray(TAG_AT, HEAD_BYTES));
      const opened = decipher.update(payload.subarray(HEAD_BYTES));
      decipher.final();
      return opened;
    } catch (error) {
      throw new LogSetupError(CHANGED, error);
    }
  }
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
    .update(sealed.subarray(SALT_AT, NONCE_AT))
    .digest();
}
