// Records the found and the missing tools: .cache/tools/found.json {name: path} and
// .cache/tools/missing.json {name: reason}. Tests read them (scripts/harness/tool.ts).
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { debianPrograms } from './debian.mjs';
import {
  confineFolder,
  goConformanceModule,
  goGrpcurlModule,
  goHelmModule,
  goKubernetesModule,
  goModule,
  root,
  toolsDir,
  which,
} from './paths.mjs';

const foundFile = join(toolsDir, 'found.json');
const missingFile = join(toolsDir, 'missing.json');
const stampFile = join(toolsDir, 'stamp.json');

/** The install retries a failed part only after this time, so that not each `npm test` waits for it. */
const retryMs = 60 * 60_000;

export class Record {
  found = {};
  missing = {};
  #wants;

  constructor(wants) {
    const earlier = readJson(stampFile);
    this.#wants = {
      tests: wants.tests || (earlier?.tests ?? false),
      bench: wants.bench || (earlier?.bench ?? false),
    };
    this.found = readJson(foundFile) ?? {};
    this.missing = readJson(missingFile) ?? {};
  }

  has(name, path) {
    this.found[name] = path;
    delete this.missing[name];
  }

  lacks(name, reason) {
    this.missing[name] = reason;
    delete this.found[name];
  }

  write() {
    writeJson(foundFile, this.found);
    writeJson(missingFile, this.missing);
    writeJson(stampFile, { ...this.#wants, recipe: recipe(), missingSinceMs: Date.now() });
  }
}

/** True when an earlier install with this recipe covers the wanted parts, and the found tools still exist. */
export function recordIsCurrent(wants) {
  const stamp = readJson(stampFile);
  const found = readJson(foundFile);
  const missing = readJson(missingFile);
  if (stamp === undefined || found === undefined || missing === undefined) return false;
  if (stamp.recipe !== recipe()) return false;
  if ((wants.tests && !stamp.tests) || (wants.bench && !stamp.bench)) return false;
  if (!Object.values(found).every((path) => existsSync(path))) return false;
  // The user has installed it in the meantime.
  if (debianPrograms.some((name) => name in missing && which(name) !== undefined)) return false;
  return Object.keys(missing).length === 0 || Date.now() - stamp.missingSinceMs < retryMs;
}

/** A digest of these scripts, of the pinned versions and of what they compile: a change of either installs the tools again. */
function recipe() {
  const hash = createHash('sha256');
  const here = join(root, 'scripts', 'tools');
  for (const name of readdirSync(here).sort()) {
    if (name.endsWith('.mjs')) hash.update(readFileSync(join(here, name)));
  }
  for (const folder of [goModule, goKubernetesModule, goHelmModule, goGrpcurlModule, goConformanceModule]) {
    hash.update(readFileSync(join(folder, 'go.mod')));
  }
  for (const name of readdirSync(confineFolder).sort()) hash.update(readFileSync(join(confineFolder, name)));
  return hash.digest('hex');
}

function readJson(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    return undefined;
  }
}

function writeJson(file, value) {
  mkdirSync(toolsDir, { recursive: true });
  // We rename the new file, so that a concurrent reader sees either the old file or the new one.
  writeFileSync(`${file}.new`, `${JSON.stringify(value, null, 2)}\n`);
  renameSync(`${file}.new`, file);
}
