#!/usr/bin/env node
/** The command line: `outrigger run`, `outrigger check`, … Each command is loaded when it is asked for. */
import { enableCompileCache } from 'node:module';
import { fileURLToPath } from 'node:url';

// A .ts file as the entry makes Node load its type stripper, 10 to 15 MB that stay for good. The launcher is plain
// JavaScript, and finds this file's types stripped in the cache: the same process begins again through it, once.
const LAUNCHED = 'SIDECAR_LAUNCHED';
if (
  import.meta.main &&
  process.platform === 'linux' &&
  process.env[LAUNCHED] === undefined &&
  process.execve !== undefined
) {
  const launcher = fileURLToPath(new URL('bin.mjs', import.meta.url));
  const args = [process.execPath, ...process.execArgv, launcher, ...process.argv.slice(2)];
  process.execve(process.execPath, args, { ...process.env, [LAUNCHED]: '1' } as Record<string, string>);
}

// Compiled code and stripped types from an earlier start: less time to start, and less memory. It lies
// beside the code, where only who may change the code may change it; on a read-only disk there is none.
enableCompileCache(fileURLToPath(new URL('../node_modules/.cache/outrigger', import.meta.url)));

const { dispatch } = await import('./commands/dispatch.ts');
process.exitCode = await dispatch(process.argv.slice(2));
