#!/usr/bin/env node
/**
 * Starts main.ts on a Node that can run TypeScript as it is. It is plain JavaScript, because an older Node
 * refuses a .ts file before it reads a line of it. When this Node is too old, the one that npm has
 * installed beside Outrigger takes over; without that, the message says how to get one.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import * as module from 'node:module';
import { fileURLToPath } from 'node:url';

/** The first Node that strips types without a flag. */
const OLDEST = { major: 22, minor: 18 };
const EX_UNAVAILABLE = 69;

const main = new URL('main.ts', import.meta.url);
const bundled = fileURLToPath(new URL('../node_modules/.bin/node', import.meta.url));
const [major, minor] = process.versions.node.split('.').map(Number);

if (major > OLDEST.major || (major === OLDEST.major && minor >= OLDEST.minor)) {
  // Before main.ts, so that its own types are stripped only once; it says why there.
  module.enableCompileCache(fileURLToPath(new URL('../node_modules/.cache/outrigger', import.meta.url)));
  await import(main.href);
} else if (existsSync(bundled)) {
  takeOver(bundled);
} else {
  console.error(`outrigger: Node ${process.versions.node} is too old; Outrigger needs Node 24.
    Install Node 24 (https://nodejs.org), or run "npm install" in Outrigger's folder, which brings one along.`);
  process.exitCode = EX_UNAVAILABLE;
}

/** Runs the command on the other Node; signals go through, and its end is ours. */
function takeOver(node) {
  const child = spawn(node, [fileURLToPath(main), ...process.argv.slice(2)], { stdio: 'inherit' });
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  child.on('error', (error) => {
    console.error(`outrigger: can not start ${node}: ${error.message}`);
    process.exitCode = EX_UNAVAILABLE;
  });
  child.on('exit', (code, signal) => {
    if (signal === null) process.exit(code);
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
  });
}
