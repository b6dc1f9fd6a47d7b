// Transparent interception in a network namespace that stands for a pod: the rules that inject writes, loaded by
// nft, with a real sidecar as its own user, an app as another, and callers and agents outside.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { startProcess, type TestProcess } from '../scripts/harness/process.ts';
import { requireTool, skipWithout } from '../scripts/harness/tool.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { INTERCEPTING_LISTENERS, interceptRules } from '../sidecar/kubernetes/inject/intercept.ts';

const root = join(import.meta.dirname, '..');
const peer = join(root, 'test/intercept/peer.ts');
const pod = `outrigger-pod-${process.pid}`;
const outside = `outrigger-out-${process.pid}`;
/** In both families: a pod of a dual-stack cluster. */
const families = [
  { name: 'IPv4', podAddress: '10.99.0.1', outsideAddress: '10.99.0.2', bits: 24, loopback: '127.0.0.1' },
  { name: 'IPv6', podAddress: 'fd99::1', outsideAddress: 'fd99::2', bits: 64, loopback: '[::1]' },
] as const;
const [{ outsideAddress: otherAgent }] = families;
const inUrl = (address: string) => (address.includes(':') ? `[${address}]` : address);
const app = 1000;
const sidecarUser = 15000;

t.setTimeout(290_000);

/** Why this machine can't: not root, no tools, or a kernel or container that makes no namespaces. */
function cannot(): string | false {
  const missing = skipWithout('nft', 'ip');
  if (missing !== false) return missing;
  if (process.getuid?.() !== 0) return 'without root: namespaces need it';
  if (!['/usr/bin/setpriv', '/bin/setpriv'].some((path) => existsSync(path)))
    return 'without setpriv (util-linux)';
  const made = spawnSync(requireTool('ip'), ['netns', 'add', pod], { encoding: 'utf8' });
  if (made.status !== 0) return `without network namespaces: ${made.stderr.trim()}`;
  return false;
}

function ip(...args: string[]): void {
  const { status, stderr } = spawnSync(requireTool('ip'), args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`ip ${args.join(' ')}: ${stderr}`);
}

/** Starts a program in a namespace as a user. */
function startIn(namespace: string, user: number, args: readonly string[], env = {}): TestProcess {
  const as = ['setpriv', `--reuid=${user}`, `--regid=${user}`, '--clear-groups', '--inh-caps=-all'];
  const inside = ['netns', 'exec', namespace, ...as, process.execPath, ...args];
  return startProcess(t, requireTool('ip'), inside, { cwd: '/', env: { HOME: '/', ...env } });
}

async function serve(namespace: string, address: string, name: string): Promise<void> {
  const server = startIn(namespace, app, [peer, 'serve', address, name]);
  await waitUntil(`${name} listens`, () => server.logs().includes('listening'));
}

async function call(namespace: string, user: number, address: string, authority = '') {
  const caller = startIn(namespace, user, [peer, 'call', address, authority]);
  await caller.ended;
  const line = /^\{.*\}$/m.exec(caller.logs())?.[0];
  if (line === undefined) throw new Error(`the caller said: ${caller.logs()}`);
  return JSON.parse(line) as { code: number; reason: string; answer: string };
}

const skip = cannot();

t.test('calls of a pod pass its sidecar in both directions, with any address', { skip }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-intercept-'));
  t.teardown(() => {
    for (const namespace of [pod, outside]) spawnSync(requireTool('ip'), ['netns', 'delete', namespace]);
    rmSync(folder, { recursive: true, force: true });
  });
  ip('netns', 'add', outside);
  // Its name fits the kernel's 15 characters.
  ip('link', 'add', 'eth0', 'netns', pod, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', outside);
  for (const namespace of [pod, outside]) {
    ip('-n', namespace, 'link', 'set', 'eth0', 'up');
    ip('-n', namespace, 'link', 'set', 'lo', 'up');
  }
  for (const { podAddress, outsideAddress, bits } of families) {
    // An address that is being looked for elsewhere first can't be used yet.
    const add = ['dev', 'eth0', ...(bits === 64 ? ['nodad'] : [])];
    ip('-n', pod, 'address', 'add', `${podAddress}/${bits}`, ...add);
    ip('-n', outside, 'address', 'add', `${outsideAddress}/${bits}`, ...add);
  }
  const config = join(folder, 'outrigger.yaml');
  writeFileSync(
    config,
    JSON.stringify({
      name: 'app',
      outbound: { clusters: { 'other-agent': { endpoints: [`${otherAgent}:50051`] } } },
    }),
  );
  spawnSync('chmod', ['755', folder]);
  await serve(pod, '127.0.0.1:50051', 'the app');
  for (const { outsideAddress } of families) {
    await serve(outside, `${inUrl(outsideAddress)}:50051`, 'the other agent');
    await serve(outside, `${inUrl(outsideAddress)}:7000`, 'something else');
  }
  const listeners = Object.fromEntries(INTERCEPTING_LISTENERS.map(({ name, value }) => [name, value]));
  const sidecar = startIn(
    pod,
    sidecarUser,
    [join(root, 'sidecar/main.ts'), 'run', '--config', config],
    listeners,
  );
  await waitUntil('the sidecar listens', () => sidecar.logs().includes('"listening"'));

  for (const { name, podAddress } of families) {
    const before = await call(outside, app, `${inUrl(podAddress)}:50051`);
    t.equal(before.code, 14, `${name}: the app listens on localhost alone: nobody outside reaches it`);
  }

  const rules = interceptRules({ inboundPort: 50051, outboundPorts: [50051] });
  const load = () =>
    spawnSync(requireTool('ip'), ['netns', 'exec', pod, requireTool('nft'), rules], { encoding: 'utf8' });
  t.match(load(), { status: 0, stderr: '' }, 'nft takes the script as one argument, as the container has it');
  t.match(load(), { status: 0, stderr: '' }, 'and a second time, when the step runs again');

  for (const { name, podAddress, outsideAddress, loopback } of families) {
    const inbound = await call(outside, app, `${inUrl(podAddress)}:50051`);
    const bySidecar = { code: 0, answer: /^the app asked from 127\.0\.0\.1/ };
    t.match(inbound, bySidecar, `${name}: inbound, by way of the sidecar`);

    const direct = `${inUrl(outsideAddress)}:50051`;
    const outbound = await call(pod, app, direct, 'other-agent');
    t.match(
      outbound,
      { code: 0, answer: /^the other agent/ },
      `${name}: outbound, to where the authority says`,
    );
    const unknown = await call(pod, app, direct, 'stranger');
    t.match(unknown, { code: 12, reason: 'no_route' }, 'the sidecar answers: the call did go through it');

    const own = await call(pod, sidecarUser, direct, 'stranger');
    t.match(own, { code: 0, answer: /^the other agent/ }, `${name}: the sidecar's user is let through`);
    const other = await call(pod, app, `${inUrl(outsideAddress)}:7000`, 'stranger');
    t.match(other, { code: 0, answer: /^something else/ }, `${name}: other ports are not touched`);
    const outboundFromOutside = await call(outside, app, `${inUrl(podAddress)}:15001`, 'other-agent');
    t.equal(outboundFromOutside.code, 14, `${name}: nobody outside reaches the outbound listener`);
    const local = await call(pod, app, `${loopback}:15001`, 'other-agent');
    t.match(local, { code: 0, answer: /^the other agent/ }, `${name}: which listens on ${loopback}`);
  }
  const local = await call(pod, app, '127.0.0.1:50051');
  t.match(local, { code: 0, answer: /^the app/ }, 'traffic within the pod is not redirected');

  sidecar.kill('SIGTERM');
  const code = await sidecar.ended;
  t.equal(code, 0, code === 0 ? 'the sidecar ends in order' : sidecar.logs().slice(-4_000));
  for (const { name, outsideAddress } of families)
    t.match(
      await call(pod, app, `${inUrl(outsideAddress)}:50051`, 'other-agent'),
      { code: 14 },
      `${name}: without the sidecar nothing goes past it`,
    );
});
