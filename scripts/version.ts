// Writes the version of package.json wherever else it stands: lock, Python package, chart, images. `npm version X` runs it;
// test/version.test.ts holds that nothing names another version.
import { execFileSync } from 'node:child_process';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
const VERSION = String.raw`\d+\.\d+\.\d+(?:-[\w.]+)?`;
const after = (text: string): RegExp => new RegExp(`(?<=${text})${VERSION}`, 'gm');

/** What stands before the version in files of one kind. */
const places: readonly [files: RegExp, pattern: RegExp][] = [
  [/^package-lock\.json$/, after(String.raw`"name": "outrigger",\n\s+"version": "`)],
  [/^python\/pyproject\.toml$/, after('^version = "')],
  [/^k8s\/helm\/outrigger\/Chart\.yaml$/, after('^(?:version|appVersion): ')],
  [/^k8s\/.*kustomization\.yaml$/, after(String.raw`\{ name: outrigger[\w-]*, newTag: `)],
  [/^Dockerfile$/, after('^ARG VERSION=')],
  [
    /(^|\/)(Dockerfile|README\.md|docker-compose(\.tools)?\.yml)$|^docs\/.*\.md$/,
    after('\\boutrigger(?:-agents|-intercept|-tools)?:'),
  ],
];

export interface VersionPlace {
  readonly file: string;
  readonly versions: readonly string[];
}

/** package.json's: the one that counts. */
export function ownVersion(): string {
  return (JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }).version;
}

/** Each tracked file that names the version, and the versions that it names. */
export function versionPlaces(): VersionPlace[] {
  return visit((text, pattern) => text.match(pattern) ?? []);
}

function visit(look: (text: string, pattern: RegExp, file: string) => readonly string[]): VersionPlace[] {
  const tracked = execFileSync('git', ['ls-files', '-z'], { cwd: root, encoding: 'utf8' }).split('\0');
  const found: VersionPlace[] = [];
  for (const file of tracked) {
    const patterns = places.filter(([files]) => files.test(file)).map(([, pattern]) => pattern);
    if (patterns.length === 0 || !statSync(join(root, file), { throwIfNoEntry: false })?.isFile()) continue;
    const versions = patterns.flatMap((pattern) =>
      look(readFileSync(join(root, file), 'utf8'), pattern, file),
    );
    if (versions.length > 0) found.push({ file, versions });
  }
  return found;
}

if (import.meta.main) {
  const version = ownVersion();
  const written = visit((text, pattern, file) => {
    const old = text.match(pattern) ?? [];
    if (old.some((each) => each !== version)) writeFileSync(join(root, file), text.replace(pattern, version));
    return old.filter((each) => each !== version);
  });
  for (const { file, versions } of written)
    console.log(`${file}: ${[...new Set(versions)].join(', ')} → ${version}`);
}
