// Builds the peers of `npm run test:languages` into .cache/languages: the first build takes minutes, later ones build
// only changes. A failed build goes with its reason to missing.json there, and the suite skips it by name.
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { run } from './tools/command.mjs';
import { installPackages } from './tools/debian.mjs';
import { findGo } from './tools/go.mjs';
import { cache, root, which } from './tools/paths.mjs';
import { createVenv } from './tools/python.mjs';

const sources = join(root, 'test', 'languages');
const built = join(cache, 'languages');
const limitMs = 30 * 60_000;
const pythonPackages = ['grpcio==1.85.1', 'grpclib==0.4.9', 'h2==4.4.1', 'multidict==7.2.1'];

/** One job at a time: this build is not urgent, and other processes may need the machine. */
const builds = {
  java: ['java-netty', 'java-okhttp'],
  tonic: ['tonic'],
  cpp: ['cpp'],
  'connect-go': ['connect-go'],
  'connect-node': ['connect-node'],
  python: ['grpc-aio', 'grpclib'],
};
const steps = {
  java: buildJava,
  tonic: buildTonic,
  cpp: buildCpp,
  'connect-go': buildConnectGo,
  'connect-node': buildConnectNode,
  python: () => createVenv('venv-languages', pythonPackages),
};

const missing = {};
mkdirSync(built, { recursive: true });
for (const [name, languages] of Object.entries(builds)) {
  console.log(`outrigger: building the peers in ${languages.join(' and ')} …`);
  try {
    await steps[name]();
  } catch (error) {
    console.error(`outrigger: without ${languages.join(' and ')}: ${error.message}`);
    for (const language of languages) missing[language] = error.message;
  }
}
writeFileSync(join(built, 'missing.json'), `${JSON.stringify(missing, null, 2)}\n`);

function nice(program, args, options) {
  return run('nice', [program, ...args], { limitMs, ...options });
}

/** The path of a program; installs its Debian packages if it is missing. */
async function need(program, packages) {
  const problem = which(program) === undefined ? await installPackages(packages) : undefined;
  const path = which(program);
  if (path === undefined) throw new Error(problem ?? `${packages.join(', ')} do not contain ${program}`);
  return path;
}

async function buildJava() {
  const maven = await need('mvn', ['maven', 'default-jdk-headless']);
  const args = ['--quiet', '--batch-mode', `-Dfolder=${join(built, 'java')}`, 'compile'];
  await nice(maven, args, { cwd: join(sources, 'java') });
}

async function buildTonic() {
  const cargo = which('cargo');
  if (cargo === undefined) throw new Error('this system has no cargo: install Rust');
  const folder = join(built, 'tonic', 'source');
  mkdirSync(folder, { recursive: true });
  for (const name of ['Cargo.toml', 'build.rs', 'src']) {
    cpSync(join(sources, 'tonic', name), join(folder, name), { recursive: true, preserveTimestamps: true });
  }
  await restoreLock(cargo, folder);
  const env = { CARGO_TARGET_DIR: join(built, 'tonic') };
  await nice(cargo, ['build', '--locked', '--quiet', '--jobs', '1'], { cwd: folder, env });
}

/** The lock in the repository names no registry; a lock that cargo generates supplies its name. */
async function restoreLock(cargo, folder) {
  const pins = readFileSync(join(sources, 'tonic', 'versions.lock'), 'utf8');
  const lock = join(folder, 'Cargo.lock');
  const stamp = join(folder, 'versions.lock');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === pins) return;
  await nice(cargo, ['generate-lockfile', '--quiet'], { cwd: folder });
  const source = /^source = .*$/m.exec(readFileSync(lock, 'utf8'))?.[0];
  if (source === undefined) throw new Error('cargo wrote a lock without a source');
  writeFileSync(lock, pins.replaceAll(/^checksum = /gm, `${source}\nchecksum = `));
  writeFileSync(stamp, pins);
}

async function buildCpp() {
  const folder = join(built, 'cpp');
  const from = join(sources, 'cpp');
  const digest = createHash('sha256');
  for (const name of readdirSync(from).sort()) digest.update(readFileSync(join(from, name)));
  const stamp = digest.digest('hex');
  if (existsSync(join(folder, stamp))) return;
  const packages = [
    'g++',
    'libgrpc++-dev',
    'libprotobuf-dev',
    'pkg-config',
    'protobuf-compiler-grpc',
    'zlib1g-dev',
  ];
  const compiler = await need('g++', packages);
  const plugin = await need('grpc_cpp_plugin', packages);
  const protoc = await need('protoc', packages);
  mkdirSync(folder, { recursive: true });
  const generate = [
    `--cpp_out=${folder}`,
    `--grpc_out=${folder}`,
    `--plugin=protoc-gen-grpc=${plugin}`,
    'bytes.proto',
  ];
  await nice(protoc, generate, { cwd: from });
  const libraries = await run(
    await need('pkg-config', packages),
    ['--cflags', '--libs', 'grpc++', 'protobuf'],
    { limitMs },
  );
  const files = [
    ...readdirSync(from).filter((name) => name.endsWith('.cc')),
    'bytes.pb.cc',
    'bytes.grpc.pb.cc',
  ];
  const paths = files.map((name) => (existsSync(join(from, name)) ? join(from, name) : join(folder, name)));
  const program = join(folder, 'languages');
  const flags = ['-std=c++17', '-O1', `-I${folder}`, `-I${from}`, '-o', `${program}.new`];
  await nice(compiler, [...flags, ...paths, ...libraries.trim().split(/\s+/), '-lz']);
  renameSync(`${program}.new`, program);
  writeFileSync(join(folder, stamp), '');
}

async function buildConnectGo() {
  const env = { GOFLAGS: '-p=1', GOTOOLCHAIN: 'local', CGO_ENABLED: '0', GOWORK: 'off' };
  const args = ['build', '-trimpath', '-mod=readonly', '-o', join(built, 'connect-go', 'languages'), '.'];
  await nice(await findGo(), args, { cwd: join(sources, 'connect-go'), env });
}

/** A copy beside its packages, where Node looks for them. */
async function buildConnectNode() {
  const from = join(sources, 'connect-node');
  const folder = join(built, 'connect-node');
  mkdirSync(folder, { recursive: true });
  for (const name of readdirSync(from)) copyFileSync(join(from, name), join(folder, name));
  const installed = join(folder, 'node_modules', '.package-lock.json');
  const lock = readFileSync(join(folder, 'package-lock.json'), 'utf8');
  const { packages } = existsSync(installed) ? JSON.parse(readFileSync(installed, 'utf8')) : { packages: {} };
  const versions = (some) =>
    JSON.stringify(Object.entries(some).map(([name, { version }]) => [name, version]));
  const { '': _, ...wanted } = JSON.parse(lock).packages;
  if (versions(packages) === versions(wanted)) return;
  await nice('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], { cwd: folder });
}
