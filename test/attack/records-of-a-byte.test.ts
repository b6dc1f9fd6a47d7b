// A provider over TLS sends streams of events in records of one byte each. The provider: test/support/python/records_of_a_byte.py.
import { randomBytes } from 'node:crypto';
import { type ClientRequest, get, request } from 'node:http';
import { join } from 'node:path';
import t from 'tap';
import { SecretVolume, TestAuthority } from '../../scripts/harness/certificates.ts';
import { startProcess } from '../../scripts/harness/process.ts';
import { requireTool, skipWithout } from '../../scripts/harness/tool.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { startScene } from './scene.ts';

t.setTimeout(120_000);

const CONNECTIONS = 60;
const ATTACK_MS = 5_000;
const PROBE_EVERY_MS = 250;
/** The kubelet waits for a second by default, on a machine that is not as busy. */
const PROBE_TIMEOUT_MS = 3_000;

/** @param reads false for a caller that takes the head and nothing more */
function ask(port: number, reads: boolean, onBegun: () => void): ClientRequest {
  const body = JSON.stringify({ model: 'm', stream: true, messages: [{ role: 'user', content: 'hello' }] });
  const traceparent = `00-${randomBytes(16).toString('hex')}-${randomBytes(8).toString('hex')}-01`;
  const headers = { 'content-type': 'application/json', 'content-length': body.length, traceparent };
  const where = { port, host: '127.0.0.1', path: '/v1/chat/completions' };
  const asked = request({ ...where, method: 'POST', agent: false, headers }, (response) => {
    onBegun();
    response.on('error', () => {});
    if (reads) response.resume();
  });
  asked.on('error', () => {});
  asked.end(body);
  return asked;
}

function probe(port: number): Promise<string> {
  const where = { port, host: '127.0.0.1', path: '/healthz/live', agent: false, timeout: PROBE_TIMEOUT_MS };
  return new Promise((resolve) => {
    const asked = get(where, (response) => {
      response.resume();
      resolve(`${response.statusCode}`);
    });
    asked.on('timeout', () => asked.destroy(new Error('timeout')));
    asked.on('error', (error) => resolve(error.message));
  });
}

t.test('memory is bounded under streams in one-byte records', { skip: skipWithout('python') }, async (t) => {
  const authority = await TestAuthority.make();
  const files = new SecretVolume(t, {
    ...(await authority.issue({ names: ['localhost'] })),
    ca: authority.ca,
  });
  const program = join(import.meta.dirname, '../support/python/records_of_a_byte.py');
  const provider = startProcess(t, requireTool('python'), [program, files.cert, files.key]);
  const port = await waitUntil('the provider printed its port', () => /^(\d+)$/m.exec(provider.logs())?.[1]);
  const scene = await startScene(t, {
    config: { llm: { upstreams: [{ name: 'odd', url: `https://localhost:${port}/v1` }] } },
    env: { NODE_EXTRA_CA_CERTS: files.ca },
    checkout: process.env['ATTACKED_CHECKOUT'],
  });
  const { llmPort, healthPort } = scene.sidecar;
  let begun = 0;
  const { result: probes, bystander } = await scene.during(async () => {
    const asked = Array.from({ length: CONNECTIONS }, (_, at) =>
      ask(llmPort, at % 4 !== 3, () => {
        begun++;
      }),
    );
    await waitUntil('all streams have begun', () => begun === CONNECTIONS);
    const endAtMs = performance.now() + ATTACK_MS;
    const said: string[] = [];
    while (performance.now() < endAtMs) {
      said.push(await probe(healthPort));
      await new Promise((resolve) => setTimeout(resolve, PROBE_EVERY_MS));
    }
    for (const one of asked) one.destroy();
    return said;
  });
  t.strictSame([...new Set(probes)], ['200'], `each of ${probes.length} probes is answered`);
  scene.holds(t, bystander);
  t.comment(`peak ${scene.peakBytes() / 1e6} MB`);
});
