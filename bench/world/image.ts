// How the image runs the sidecar: the bundle, with the flags and the environment that the Dockerfile gives it.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..', '..');
const bundle = join(root, 'dist', 'outrigger.mjs');

export interface Launch {
  readonly program: string;
  readonly nodeArgs: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/** Why there is none, or false. */
export function imageIsMissing(): string | false {
  return existsSync(bundle) ? false : 'dist/ is missing: run node scripts/bundle.mjs --compile first';
}

export function imageLaunch(dockerfile = readFileSync(join(root, 'Dockerfile'), 'utf8')): Launch {
  // The bundle's first line names Node and its flags.
  const flags = /#!\/usr\/local\/bin\/node ([^|]*)\|/.exec(dockerfile)?.[1] ?? '';
  const lastStage = dockerfile.slice(dockerfile.lastIndexOf('\nFROM '));
  const env = [...lastStage.matchAll(/\b(NODE_\w+|MALLOC_\w+)=(\S+)/g)].map(([, name, value]) => [
    name,
    value,
  ]);
  return {
    program: bundle,
    nodeArgs: flags.split(' ').filter((flag) => flag !== ''),
    env: Object.fromEntries(env),
  };
}
