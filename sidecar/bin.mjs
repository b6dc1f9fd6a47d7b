#!/usr/bin/env node
/**
 * Starts the command: the bundle of the package, or main.ts of a checkout on a Node that runs TypeScript as it is. This
 * file is plain JavaScript, because an older Node refuses a .ts file before it reads a line of it. When this Node is too
 * old, the one that npm has installed with Outrigger takes over; without that, the message says how to get one.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import * as module from 'node:module';
import { fileURLToPath, pathToFileURL } from 'node:url';

/** The first Node that runs the bundle of the package, and the first that strips types without a flag. */
const OLDEST = { bundle: [22, 12], sources: [22, 18] };
const EX_UNAVAILABLE = 69;
/** Set for the process on the newer Node. Its channel to the older one closes when that ends, by SIGKILL, too. */
const LAUNCHER = 'SIDECAR_LAUNCHER';

// The package brings a bundle beside this file; a checkout has the sources.
const bundle = new URL('command/outrigger.mjs', import.meta.url);
const hasBundle = existsSync(bundle);
const main = hasBundle ? bundle : new URL('main.ts', import.meta.url);
const [oldestMajor, oldestMinor] = hasBundle ? OLDEST.bundle : OLDEST.sources;
const [major, minor] = process.versions.node.split('.').map(Number);

const isLaunched = process.env[LAUNCHER] !== undefined;
if (isLaunched) {
  delete process.env[LAUNCHER];
  // Otherwise a sidecar whose launcher was killed would keep its ports and its key.
  process.once('disconnect', () => process.kill(process.pid, 'SIGKILL'));
  process.channel?.unref();
}

if (isLaunched || major > oldestMajor || (major === oldestMajor && minor >= oldestMinor)) {
  // Before main.ts, so that its own types are stripped only once; it says why there.
  if (!hasBundle)
    module.enableCompileCache(fileURLToPath(new URL('../node_modules/.cache/outrigger', import.meta.url)));
  await import(main.href);
} else {
  const node = nodeOfPackage();
  if (node !== undefined) takeOver(node);
  else {
    console.error(`outrigger: Node ${process.versions.node} is too old; Outrigger needs Node 24.
    Install Node 24 (https://nodejs.org), or run "npm install" again with optional packages, which bring one along.`);
    process.exitCode = EX_UNAVAILABLE;
  }
}

/** The Node that npm has installed with Outrigger, on the systems that have such a package. */
function nodeOfPackage() {
  try {
    const name = `node-${process.platform}-${process.arch}`;
    const manifest = module.createRequire(import.meta.url).resolve(`${name}/package.json`);
    return fileURLToPath(new URL('bin/node', pathToFileURL(manifest)));
  } catch {
    return undefined;
  }
}

/** Runs the command on the other Node; signals go through, and its end is ours. */
function takeOver(node) {
  const child = spawn(node, [fileURLToPath(import.meta.url), ...process.argv.slice(2)], {
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
    env: { ...process.env, [LAUNCHER]: '1' },
  });
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
