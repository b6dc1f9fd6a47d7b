// The package as `npm pack` makes it, and as a stranger's project has it after `npm install`.
import { execFileSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Test } from 'tap';
import { runProcess } from '../../scripts/harness/process.ts';

const root = join(import.meta.dirname, '..', '..');
/**
 * Arguments of `env` that run a program without the loaders that tap gives to each child process: a stranger has none, and
 * neither TypeScript's compiler nor an older Node can start with them.
 */
export const AS_STRANGER = ['-u', 'NODE_OPTIONS'];

/** Runs a program to its end, without tap's loaders. */
export function runAsStranger(
  t: Test,
  program: string,
  args: readonly string[],
  options: { cwd: string; env?: Record<string, string>; limitMs?: number },
): Promise<{ code: number | NodeJS.Signals; output: string }> {
  return runProcess(t, 'env', [...AS_STRANGER, program, ...args], options);
}

/** What an installation may take on a machine that others use, too. */
const INSTALL_LIMIT_MS = 240_000;

/** A folder of its own, which goes with the test. */
function emptyFolder(t: Pick<Test, 'teardown'>): string {
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-package-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** The files of this checkout in a folder of their own, because `npm pack` writes into it. */
export function copyCheckout(t: Pick<Test, 'teardown'>): string {
  const folder = emptyFolder(t);
  const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], {
    cwd: root,
    encoding: 'utf8',
  });
  for (const file of files.trim().split('\n')) {
    if (!existsSync(join(root, file))) continue;
    mkdirSync(dirname(join(folder, file)), { recursive: true });
    cpSync(join(root, file), join(folder, file), { recursive: true, verbatimSymlinks: true });
  }
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
  return folder;
}

/** @returns the path of the tarball */
export async function pack(t: Test, checkout: string): Promise<string> {
  const { code, output } = await runAsStranger(t, 'npm', ['pack', '--ignore-scripts=false'], {
    cwd: checkout,
    limitMs: INSTALL_LIMIT_MS,
  });
  if (code !== 0) throw new Error(`npm pack failed:\n${output}`);
  const tarball = readdirSync(checkout).find((name) => name.endsWith('.tgz'));
  if (tarball === undefined) throw new Error(`npm pack left no tarball:\n${output}`);
  return join(checkout, tarball);
}

/** A project of ECMAScript modules with these packages. */
export async function project(
  t: Test,
  packages: readonly string[],
  options: readonly string[] = [],
): Promise<string> {
  const folder = emptyFolder(t);
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }\n');
  await install(t, folder, packages, options);
  return folder;
}

/** A copy of a folder of the repository in a place of its own, as someone has it who knows nothing else of the repository. */
export function copyFolder(t: Pick<Test, 'teardown'>, path: string): string {
  const folder = emptyFolder(t);
  cpSync(join(root, path), folder, { recursive: true, filter: (file) => !/node_modules|dist$/.test(file) });
  return folder;
}

/** Installs these packages and what the folder's package.json names. */
export async function install(
  t: Test,
  folder: string,
  packages: readonly string[],
  options: readonly string[] = [],
): Promise<void> {
  const { code, output } = await runAsStranger(
    t,
    'npm',
    ['install', '--no-audit', '--no-fund', '--prefer-offline', ...options, ...packages],
    { cwd: folder, limitMs: INSTALL_LIMIT_MS },
  );
  if (code !== 0) throw new Error(`npm install failed:\n${output}`);
}

/** Bytes of all files below, links not followed. */
export function bytesOf(folder: string): number {
  return Number(execFileSync('du', ['-sb', folder], { encoding: 'utf8' }).split('\t')[0]);
}
