/** Finds files of keys that can't be read: the keys of before stay in use, and nobody would know. Pure. */
import type { Finding } from './finding.ts';

export interface KeyFileFacts {
  /** The setting that names the file. */
  readonly setting: string;
  /** Why it is of no use, and what to do; '' while it is. */
  readonly problem: string;
  /** Keys of before are in use meanwhile. */
  readonly inUse: boolean;
}

export function* keyFileFindings({ setting, problem, inUse }: KeyFileFacts): Generator<Finding> {
  if (problem === '') return;
  yield {
    kind: 'key_file_unusable',
    id: `key file ${setting}`,
    severity: inUse ? 'warn' : 'bad',
    text: `The file of ${setting} can not be used, and ${inUse ? 'its last keys stay in use' : 'there is no key'}: ${problem}.`,
    detail: '',
    about: { setting },
    numbers: {},
  };
}
