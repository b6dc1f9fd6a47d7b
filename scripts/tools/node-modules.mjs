// node_modules: installed with `npm ci` when it is missing or differs from the lock.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from './command.mjs';
import { modules, root } from './paths.mjs';

const requiredMajor = 24;
const limitMs = 10 * 60_000;

/**
 * Compares the lock with the copy that npm leaves in node_modules when an install is complete (it is
 * written last, so an interrupted install has none).
 */
export function nodeModulesAreCurrent() {
  const wanted = packagesOf(join(root, 'package-lock.json'));
  const installed = packagesOf(join(modules, '.package-lock.json'));
  if (wanted === undefined) throw new Error('package-lock.json is missing or broken: restore it from git');
  if (installed === undefined) return false;
  for (const [path, entry] of Object.entries(wanted)) {
    if (path === '') continue;
    const found = installed[path];
    // npm omits optional packages for other systems.
    if (found === undefined ? !(entry.optional && !fitsHost(entry)) : found.version !== entry.version) {
      return false;
    }
  }
  return true;
}

export async function installNodeModules() {
  const startedMs = Date.now();
  console.log('outrigger: installing node_modules (npm ci), only this time …');
  try {
    await run(
      'npm',
      ['ci', '--include=dev', '--include=optional', '--no-audit', '--no-fund', '--loglevel=error'],
      {
        limitMs,
        // The npm that runs this script passes its settings on; a dry run or a prefix must not reach `npm ci`.
        env: { npm_config_dry_run: 'false', NODE_ENV: '' },
      },
    );
  } catch (error) {
    throw new Error(
      `npm ci failed, so no script can run yet. Check the network and the npm registry setting, then repeat.\n${error.message}`,
    );
  }
  console.log(`outrigger: node_modules installed in ${seconds(startedMs)} s`);
}

/** Throws with a remedy if neither the host nor node_modules has a Node that runs TypeScript. */
export function checkNode() {
  if (existsSync(join(modules, '.bin', 'node'))) return;
  const major = Number(process.versions.node.split('.')[0]);
  if (major >= requiredMajor) return;
  throw new Error(
    `Node ${requiredMajor} or newer is needed and this is ${process.version}. On Linux (x64, arm64) npm installs ` +
      `it; on ${process.platform} ${process.arch} install it yourself, then repeat.`,
  );
}

export function seconds(startedMs) {
  return ((Date.now() - startedMs) / 1000).toFixed(0);
}

function packagesOf(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8')).packages;
  } catch {
    return undefined;
  }
}

function fitsHost(entry) {
  const fits = (list, value) => list === undefined || list.includes(value);
  // Packages for another C library declare it as `libc`; npm decides, so their absence proves nothing here.
  return (
    fits(entry.os, process.platform) &&
    fits(entry.cpu, process.arch) &&
    entry.libc === undefined &&
    isLeaf(entry)
  );
}

/** An optional package without an os or cpu may be absent because the package that depends on it is. */
function isLeaf(entry) {
  return entry.os !== undefined || entry.cpu !== undefined;
}
