/** Reads the file of `bus.encrypt_key_file`. */
import { statSync } from 'node:fs';
import { FileError, readRegularFile } from '../../files/regular-file.ts';
import { LogSetupError } from '../log/log-errors.ts';
import { KEY_BYTES, KeySealer, type SealingKeys } from './sealing.ts';

const MAX_FILE_BYTES = 65_536;
const MAX_KEYS = 64;
/** Others may read it, or somebody besides its owner may write it. A group that reads is how Kubernetes mounts secrets. */
const TOO_OPEN = 0o027;
const PLAIN = 'plain';
const REMEDY = 'write a line as `openssl rand -base64 32` prints it for each key; the first seals';

/** @throws LogSetupError with what to do; it names no key */
export function openKeyFile(path: string): KeySealer {
  try {
    const mode = statSync(path).mode & 0o777;
    if ((mode & TOO_OPEN) !== 0) {
      const octal = mode.toString(8).padStart(4, '0');
      throw new LogSetupError(`${path} has keys, and its mode is ${octal}: make it 0600`);
    }
    return new KeySealer(readKeys(readRegularFile(path, MAX_FILE_BYTES).toString('latin1'), path));
  } catch (error) {
    if (error instanceof LogSetupError) throw error;
    const code = error instanceof FileError ? error.code : (error as NodeJS.ErrnoException).code;
    throw new LogSetupError(`bus.encrypt_key_file ${path} can't be read: ${code}`, error);
  }
}

/** @param name of the file, for messages */
export function readKeys(text: string, name: string): SealingKeys {
  const keys: Buffer[] = [];
  let acceptsPlain = false;
  for (const [index, written] of text.split('\n').entries()) {
    const line = written.trim();
    if (line === '' || line.startsWith('#')) continue;
    if (line === PLAIN) {
      acceptsPlain = true;
      continue;
    }
    const key = Buffer.from(line, 'base64');
    if (key.length !== KEY_BYTES || key.toString('base64') !== line)
      throw new LogSetupError(
        `line ${index + 1} of ${name} is no key of ${KEY_BYTES} bytes in base64: ${REMEDY}`,
      );
    keys.push(key);
  }
  if (keys.length === 0) throw new LogSetupError(`${name} has no key: ${REMEDY}`);
  if (keys.length > MAX_KEYS)
    throw new LogSetupError(`${name} has ${keys.length} keys: keep the latest ${MAX_KEYS} at most`);
  return { keys, acceptsPlain };
}
