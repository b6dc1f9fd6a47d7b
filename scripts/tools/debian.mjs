// Debian packages: peers and load tools that the system provides best.
import { run } from './command.mjs';
import { seconds } from './node-modules.mjs';
import { which } from './paths.mjs';

/** program → package */
const forTests = {
  nghttpd: 'nghttp2-server',
  h2load: 'nghttp2-client',
  prometheus: 'prometheus',
  promtool: 'prometheus',
  chromium: 'chromium',
  nft: 'nftables',
  ip: 'iproute2',
  bwrap: 'bubblewrap',
  runsc: 'runsc',
  // HTTP/2 servers before providers of models.
  haproxy: 'haproxy',
  nginx: 'nginx-light',
};
const forBench = { haproxy: 'haproxy', nginx: 'nginx-light', taskset: 'util-linux' };
const limitMs = 5 * 60_000;

/** Programs that may also appear without this install, for instance by the user's own apt-get. */
export const debianPrograms = [...Object.keys(forTests), ...Object.keys(forBench)];

export async function installDebian(record, wants) {
  const programs = { ...(wants.tests ? forTests : {}), ...(wants.bench ? forBench : {}) };
  const python = which('python3') === undefined ? ['python3', 'python3-venv'] : [];
  const absent = Object.keys(programs).filter((program) => which(program) === undefined);
  let problem;
  if (absent.length > 0 || python.length > 0) {
    const packages = [...new Set([...absent.map((program) => programs[program]), ...python])];
    problem = await installPackages(packages);
  }
  for (const [program, name] of Object.entries(programs)) {
    const path = which(program);
    if (path !== undefined) record.has(program, path);
    else record.lacks(program, problem ?? `the Debian package ${name} does not contain ${program}`);
  }
}

/** Installs Debian packages by their names. Returns the reason for a failure, or undefined. */
export async function installPackages(packages) {
  const apt = which('apt-get');
  const byHand = `install ${packages.join(', ')} (Debian's names) by hand`;
  if (apt === undefined) return `this system has no apt-get; ${byHand}`;
  if (process.getuid?.() !== 0) return `apt-get needs root: sudo apt-get install ${packages.join(' ')}`;
  const startedMs = Date.now();
  console.log(`outrigger: installing Debian packages ${packages.join(' ')} …`);
  const env = { DEBIAN_FRONTEND: 'noninteractive' };
  try {
    await run(apt, ['update', '-q'], { limitMs, env });
    // Packages of daemons start their service at once; we need only the program.
    const args = ['install', '-y', '-q', '--no-install-recommends', '-o', 'DPkg::Lock::Timeout=120'];
    await run(apt, [...args, ...packages], { limitMs, env: { ...env, RUNLEVEL: '1' } });
    console.log(`outrigger: Debian packages installed in ${seconds(startedMs)} s`);
    return undefined;
  } catch (error) {
    return `${error.message}; ${byHand}`;
  }
}
