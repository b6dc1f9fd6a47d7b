// What injection makes of an app's addresses works for clients that nobody here wrote: the injected pod's own values,
// dialled by grpcio and grpc-js as they are, lead through a real sidecar to the agent that the app meant.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createServer as createSecureServer, get as httpsGet } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { parseAllDocuments } from 'yaml';
import { TestAuthority } from '../scripts/harness/certificates.ts';
import { startDataPlane } from '../scripts/harness/data-plane.ts';
import { freePort } from '../scripts/harness/free-port.ts';
import { runProcess } from '../scripts/harness/process.ts';
import { RawClient, rawPaths, startRawServer } from '../scripts/harness/raw-grpc.ts';
import { startSidecar } from '../scripts/harness/sidecar.ts';
import { requireTool, skipWithout } from '../scripts/harness/tool.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { startUpstream } from './support/upstream.ts';

t.setTimeout(180_000);

const root = join(import.meta.dirname, '..');
const folder = mkdtempSync(join(tmpdir(), 'outrigger-addresses-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));

interface Variable {
  readonly name: string;
  readonly value?: string;
}

/** The environments of app and sidecar after `outrigger inject`. */
async function injected(t: Test, env: readonly Variable[]) {
  const pod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'planner' },
    spec: { containers: [{ name: 'planner', image: 'planner:1', env }] },
  };
  const file = join(folder, 'pod.yaml');
  writeFileSync(file, JSON.stringify(pod));
  const args = [join(root, 'sidecar/main.ts'), 'inject', '-f', file, '--output', 'json'];
  const quiet = ['-c', 'exec "$@" 2>/dev/null', 'sh', process.execPath, ...args];
  const { code, output } = await runProcess(t, 'sh', quiet);
  t.equal(code, 0);
  const { report, manifests } = JSON.parse(output);
  const { spec } = parseAllDocuments(manifests)[0]!.toJS();
  const textOf = (variables: readonly Variable[], name: string) =>
    variables.find((variable) => variable.name === name)?.value ?? '';
  return {
    report: report.workloads[0],
    app: (name: string) => textOf(spec.containers[0].env, name),
    targets: textOf(spec.initContainers[0].env, 'OUTRIGGER_OUTBOUND_TARGETS'),
  };
}

/** Real clients, each with nothing but the address, as apps have them. */
const clients = [
  {
    what: 'grpcio',
    skip: skipWithout('python'),
    async call(t: Test, address: string): Promise<string> {
      const script = join(root, 'test/support/python/bytes_client.py');
      const { output } = await runProcess(t, requireTool('python'), [script, address, rawPaths.unary]);
      const { code, response, details } = JSON.parse(output);
      return code === 'OK' ? response : `${code}: ${details}`;
    },
  },
  {
    what: 'grpc-js',
    skip: false,
    async call(t: Test, address: string): Promise<string> {
      const client = new RawClient(t, Number(address.split(':').at(-1)));
      const { code, response, details } = await client.unary(Buffer.from('x'));
      return code === 0 ? response!.toString() : `${code}: ${details}`;
    },
  },
] as const;

t.test('each address of the app leads to its own agent, whatever client dials it', async (t) => {
  const writing = await startUpstream(t, { name: 'writing' });
  const code = await startUpstream(t, { name: 'code' });
  // One address that a cluster of the config map serves, and one that nothing but the variable names.
  const known = 'writing-agent:50051';
  const unknown = `code-agent:${code.port}`;
  const pod = await injected(t, [
    { name: 'WRITING_AGENT_ADDR', value: known },
    { name: 'CODE_AGENT_ADDR', value: unknown },
  ]);
  t.match(pod.report.did, [/WRITING_AGENT_ADDR: calls to writing-agent:50051 go/, /CODE_AGENT_ADDR/]);
  // The sidecar of a test has other ports, and no DNS for the name of a Service.
  const ports = new Map<string, string>();
  const onFreePorts = async (text: string): Promise<string> => {
    let result = text;
    for (const port of new Set(text.match(/\b151\d\d\b/g) ?? [])) {
      if (!ports.has(port)) ports.set(port, String(await freePort()));
      result = result.replaceAll(port, ports.get(port)!);
    }
    return result;
  };
  const targets = (await onFreePorts(pod.targets)).replace('code-agent:', 'localhost:');
  const sidecar = await startSidecar(
    t,
    {
      inbound: { app: 'none' },
      outbound: { clusters: { 'writing-agent': { endpoints: [writing.address] } } },
    },
    { env: { OUTRIGGER_OUTBOUND_TARGETS: targets }, until: 'live' },
  );
  for (const { what, skip, call } of clients)
    await t.test(what, { skip }, async (t) => {
      for (const [variable, upstream, authority] of [
        ['WRITING_AGENT_ADDR', writing, known],
        ['CODE_AGENT_ADDR', code, unknown.replace('code-agent', 'localhost')],
      ] as const) {
        const name = upstream === writing ? 'writing' : 'code';
        t.equal(await call(t, await onFreePorts(pod.app(variable))), name);
        t.equal(
          upstream.calls.at(-1)?.headers[':authority'],
          authority,
          'the agent sees the name that was meant',
        );
      }
    });
  const clusters = (await (await fetch(`http://127.0.0.1:${sidecar.adminPort}/clusters`)).json()) as object;
  t.match(JSON.stringify(clusters), /localhost:\d+/, 'the cluster made of the address is shown');
});

t.test(
  'an authority of the app counts, and a reload changes the targets without cutting a call',
  async (t) => {
    const one = await startUpstream(t, { name: 'one' });
    const other = await startUpstream(t, { name: 'other' });
    const port = await freePort();
    const next = await freePort();
    const listen = `127.0.0.1:${port}`;
    const clusters = { named: { endpoints: [other.address] } };
    const to = (address: string, at = listen, more: object = {}) => ({
      inbound: { app: 'none' },
      outbound: { targets: [{ listen: at, address }], clusters, ...more },
    });
    const plane = await startDataPlane(t, to(one.address));
    const call = async (at: number, authority?: string) => {
      const options = authority === undefined ? {} : { 'grpc.default_authority': authority };
      const { code, response, details } = await new RawClient(t, at, options).unary(Buffer.from('x'));
      return code === 0 ? response!.toString() : details;
    };
    t.equal(await call(port), 'one');
    t.equal(await call(port, 'named'), 'other', 'an authority that names a cluster');
    t.equal(await call(port, 'virtual.example'), 'one');
    t.equal(one.calls.at(-1)?.headers[':authority'], 'virtual.example', 'a name of its own goes on');
    const old = new RawClient(t, port);
    t.equal((await old.unary(Buffer.from('x'))).response?.toString(), 'one');
    await plane.apply(to(other.address));
    t.equal((await old.unary(Buffer.from('x'))).response?.toString(), 'other', 'an open connection follows');
    // Routes that say nothing of the address do not take its cluster away.
    const routes = [{ match: { authority: 'elsewhere' }, cluster: 'named' }];
    await plane.apply(to(one.address, listen, { routes }));
    t.equal(await call(port), 'one');
    await plane.apply(to(one.address, `127.0.0.1:${next}`));
    t.equal(await call(next), 'one');
    await waitUntil('the old port is closed', async () => /ECONNREFUSED|connect/i.test(await call(port)));
    t.equal(plane.sidecar.notLiveBecause, undefined);
  },
);

t.test('an app that does not speak gRPC at its address goes on as without a sidecar', async (t) => {
  const web = createServer((request, response) => {
    let length = 0;
    request.on('data', (chunk: Buffer) => {
      length += chunk.length;
    });
    request.on('end', () => response.end(`${request.method} ${request.url} ${length}`));
  });
  await new Promise<void>((resolve) => web.listen(0, '127.0.0.1', resolve));
  const authority = await TestAuthority.make();
  const secured = createSecureServer(await authority.issue({ names: ['writer.example'] }), (_, response) =>
    response.end('secret'),
  );
  await new Promise<void>((resolve) => secured.listen(0, '127.0.0.1', resolve));
  for (const server of [web, secured])
    t.teardown(() => {
      server.closeAllConnections();
      server.close();
    });
  const grpc = await startRawServer(t);
  const addressOf = (server: { address(): unknown }) => `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const ports = [await freePort(), await freePort(), await freePort()] as const;
  const addresses = [addressOf(web), addressOf(secured), grpc.address];
  const targets = ports.map((port, index) => ({ listen: `127.0.0.1:${port}`, address: addresses[index] }));
  const notices: string[] = [];
  const plane = await startDataPlane(
    t,
    { inbound: { app: 'none' }, outbound: { targets } },
    { onConnectionError: (_, error) => void notices.push(error.message) },
  );
  const answer = await fetch(`http://127.0.0.1:${ports[0]}/page?x=1`, {
    method: 'POST',
    body: 'b'.repeat(1 << 20),
  });
  t.equal(await answer.text(), `POST /page?x=1 ${1 << 20}`);
  t.equal((await fetch(`http://127.0.0.1:${ports[0]}/`)).status, 200);
  const text = await new Promise<string>((resolve, reject) => {
    const options = { port: ports[1], host: '127.0.0.1', servername: 'writer.example', ca: authority.ca };
    httpsGet(options, (response) => response.on('data', (chunk) => resolve(String(chunk)))).on(
      'error',
      reject,
    );
  });
  t.equal(text, 'secret', 'TLS ends at the target, with its own certificate');
  t.match(
    notices,
    [/is no HTTP\/2 in plain text; such connections pass without policies/, /TLS/],
    'told once each',
  );
  // What does speak gRPC, many calls and large ones, is not mistaken.
  const client = new RawClient(t, ports[2]);
  const large = Buffer.alloc(3 << 20, 7);
  const outcomes = await Promise.all(
    Array.from({ length: 60 }, (_, index) =>
      client.unary(index % 20 === 0 ? large : Buffer.from(`${index}`)),
    ),
  );
  for (const [index, { code, response }] of outcomes.entries()) {
    t.equal(code, 0);
    if (index % 20 === 0) t.equal(response?.length, large.length);
    else t.equal(response?.toString(), `${index}`);
  }
  t.equal(plane.sidecar.notLiveBecause, undefined);
});

t.test('outrigger check refuses targets that clash or loop, and shows the clusters they imply', async (t) => {
  const check = async (targets: object[]) => {
    const file = join(folder, 'outrigger.yaml');
    writeFileSync(file, JSON.stringify({ outbound: { targets } }));
    return await runProcess(t, process.execPath, [join(root, 'sidecar/main.ts'), 'check', '--config', file]);
  };
  const target = (listen: string, address = 'writing-agent:50051') => ({ listen, address });
  t.match(await check([target('127.0.0.1:15101')]), { code: 0, output: /writing-agent:50051:?/ });
  t.match(await check([target('127.0.0.1:15001')]), {
    code: 64,
    output: /is also the address of outbound.listen/,
  });
  t.match(await check([target('127.0.0.1:15101'), target('127.0.0.1:15101', 'b:1')]), {
    code: 64,
    output: /is also the address of outbound.targets.0.listen/,
  });
  t.match(await check([target('127.0.0.1:15101', '127.0.0.1:15101')]), {
    code: 64,
    output: /calls would loop/,
  });
  t.match(await check([target('127.0.0.1:15101', 'writing-agent')]), {
    code: 64,
    output: /targets\.0\.address|targets\[0\]\.address/,
  });
});
