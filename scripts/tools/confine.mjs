// Compiles `confine`, the helper of the tool runner (agents/tools/confine), with musl's C library: a program of glibc asks the
// processor for its caches when it starts, which takes half a millisecond in a virtual machine. Without musl, glibc will do.
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { run } from './command.mjs';
import { installPackages } from './debian.mjs';
import { confineFolder as folder, toolsDir, which } from './paths.mjs';

const limitMs = 60_000;

/** Where the helper of these sources lies once it is compiled. */
function programPath() {
  const hash = createHash('sha256');
  for (const name of readdirSync(folder).sort()) {
    if (/\.[ch]$/.test(name)) hash.update(readFileSync(join(folder, name)));
  }
  return join(toolsDir, `confine-${hash.digest('hex').slice(0, 12)}`, 'confine');
}

export async function installConfine(record) {
  const program = programPath();
  try {
    if (!existsSync(program)) {
      await installCompilers();
      await compile(program);
    }
    record.has('confine', program);
  } catch (error) {
    record.lacks('confine', error.message);
  }
}

/** Where the helper is, compiled if need be. Installs nothing. */
export async function confineHere() {
  const program = programPath();
  if (existsSync(program)) return program;
  if (process.platform === 'linux' && which('cc') === undefined && which('musl-gcc') === undefined)
    throw new Error('there is no C compiler (cc)');
  await compile(program);
  return program;
}

async function installCompilers() {
  if (process.platform !== 'linux') return;
  if (which('musl-gcc') === undefined) await installPackages(['musl-tools', 'gcc', 'libc6-dev']);
  if (which('musl-gcc') !== undefined || which('cc') !== undefined) return;
  const problem = await installPackages(['gcc', 'libc6-dev']);
  if (problem !== undefined) throw new Error(problem);
}

async function compile(program) {
  if (process.platform !== 'linux') throw new Error('the sandbox of the tool runner needs Linux');
  const musl = which('musl-gcc');
  mkdirSync(join(program, '..'), { recursive: true });
  const sources = readdirSync(folder).filter((name) => name.endsWith('.c'));
  // Two systems may start at once.
  const made = `${program}.${process.pid}`;
  const flags = ['-O2', '-Wall', '-Wextra', '-static', '-o', made];
  const options = { limitMs, cwd: folder };
  try {
    if (musl === undefined) throw new Error('without musl');
    await run(musl, [...flags, ...kernelHeaders(), ...sources], options);
  } catch {
    await run(which('cc') ?? 'cc', [...flags, ...sources], options);
  }
  renameSync(made, program);
}

/** musl brings none of the kernel. */
function kernelHeaders() {
  const machine = process.arch === 'arm64' ? 'aarch64' : 'x86_64';
  return ['/usr/include', `/usr/include/${machine}-linux-gnu`].flatMap((path) => ['-idirafter', path]);
}
