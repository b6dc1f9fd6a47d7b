// Which cluster a call goes to: by authority, path, header and the agent_type of its first message.
import { randomBytes } from 'node:crypto';
import { brotliCompressSync, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { Metadata, status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { type DataPlane, startDataPlane } from '../scripts/harness/data-plane.ts';
import { flag, frame, frameType, grpcRequest, H2Peer } from '../scripts/harness/h2-peer.ts';
import { RawClient } from '../scripts/harness/raw-grpc.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { grpcFrame, startUpstream, taskRequest, type Upstream } from './support/upstream.ts';

const taskPath = '/agent.AgentService/ProcessTask';

interface Match {
  authority?: string;
  path_prefix?: string;
  headers?: Record<string, string>;
  agent_type?: string;
}

/** An outbound listener with one upstream for each name; each answers with its name. */
async function startRouted(
  t: Test,
  names: readonly string[],
  routes: readonly { match: Match; cluster: string }[],
  settings: Record<string, unknown> = {},
): Promise<{ plane: DataPlane; upstreams: Record<string, Upstream> }> {
  const upstreams: Record<string, Upstream> = {};
  const clusters: Record<string, unknown> = {};
  for (const name of names) {
    upstreams[name] = await startUpstream(t, { name });
    clusters[name] = { endpoints: [upstreams[name].address], ...settings };
  }
  return { plane: await startDataPlane(t, { outbound: { routes, clusters } }), upstreams };
}

interface Asked {
  host?: string;
  path?: string;
  headers?: Record<string, string>;
  message?: Buffer;
}

/** The name of the upstream that answered, or the status and reason of the answer. */
async function whoAnswers(t: Test, plane: DataPlane, asked: Asked): Promise<string> {
  const client = new RawClient(t, plane.outboundPort);
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(asked.headers ?? {})) metadata.set(name, value);
  const { code, response, trailers } = await client.unary(asked.message ?? Buffer.alloc(0), {
    path: asked.path ?? '/any.Service/Method',
    metadata,
    host: asked.host ?? 'nobody',
  });
  client.client.close();
  return code === status.OK ? String(response) : `${status[code]} ${trailers.get('outrigger-reason')[0]}`;
}

t.test('without routes the authority names the cluster, with any port and case', async (t) => {
  const { plane } = await startRouted(t, ['writing', 'Code'], []);
  for (const host of ['writing', 'writing:50051', 'WRITING', 'Writing:443'])
    t.equal(await whoAnswers(t, plane, { host }), 'writing', host);
  for (const host of ['code', 'Code', 'CODE:1']) t.equal(await whoAnswers(t, plane, { host }), 'Code', host);
  t.equal(await whoAnswers(t, plane, { host: 'writing.example' }), 'UNIMPLEMENTED no_route');
});

t.test('names with a final dot, short forms and ports are equal', async (t) => {
  const upstreams = {
    'writing-agent': await startUpstream(t, { name: 'writing' }),
    'code-agent.tools.svc.cluster.local': await startUpstream(t, { name: 'code' }),
    'localhost:50051': await startUpstream(t, { name: 'one' }),
    'localhost:50052': await startUpstream(t, { name: 'two' }),
  };
  const clusters = Object.fromEntries(
    Object.entries(upstreams).map(([name, { address }]) => [name, { endpoints: [address] }]),
  );
  const outbound = { namespace: 'agents', cluster_domain: 'cluster.local', clusters };
  const plane = await startDataPlane(t, { outbound });
  const asked: Record<string, string> = {
    'writing-agent.agents.svc.cluster.local.': 'writing',
    'Writing-Agent.agents.svc.cluster.local:50051': 'writing',
    'writing-agent.agents.svc': 'writing',
    'writing-agent.agents:50051': 'writing',
    'writing-agent.': 'writing',
    'code-agent.tools': 'code',
    'code-agent.tools.svc.': 'code',
    'localhost:50051': 'one',
    'LOCALHOST.:50052': 'two',
    'writing-agent.tools': 'UNIMPLEMENTED no_route',
    'code-agent': 'UNIMPLEMENTED no_route',
    'localhost:50053': 'UNIMPLEMENTED no_route',
  };
  for (const [host, expected] of Object.entries(asked))
    t.equal(await whoAnswers(t, plane, { host }), expected, host);
  await plane.apply({ outbound: { ...outbound, namespace: 'tools' } });
  t.equal(await whoAnswers(t, plane, { host: 'code-agent' }), 'code', 'a reload moves it');
  t.equal(await whoAnswers(t, plane, { host: 'writing-agent.agents' }), 'UNIMPLEMENTED no_route');
});

t.test('a call that matches no route is UNIMPLEMENTED and says what to do', async (t) => {
  const { plane } = await startRouted(t, ['writing', 'code'], []);
  const client = new RawClient(t, plane.outboundPort);
  const unknown = await client.unary(Buffer.alloc(0), { path: '/a.B/C', host: 'research' });
  t.equal(unknown.code, status.UNIMPLEMENTED);
  t.strictSame(unknown.trailers.get('outrigger-reason'), ['no_route']);
  t.match(unknown.details, /research\/a\.B\/C/, 'names the call');
  t.match(unknown.details, /writing, code/, 'names the clusters there are');

  const clusters = { code: { endpoints: ['127.0.0.1:1'] } };
  const routes = [
    { match: { authority: 'code-agent' }, cluster: 'code' },
    { match: { authority: 'code-agent', agent_type: 'sorting' }, cluster: 'code' },
    { match: { agent_type: 'code' }, cluster: 'code' },
  ];
  await plane.apply({ outbound: { routes, clusters } });
  const message = taskRequest({ type: 'poetry' });
  const noType = await client.unary(message, { path: taskPath });
  t.equal(noType.code, status.UNIMPLEMENTED);
  t.match(noType.details, /agent_type "poetry"/);
  t.match(noType.details, /outbound\.routes/);
  t.match(noType.details, /for authority code-agent, and for agent_type sorting, code$/, 'and what there is');
  const many = Array.from({ length: 30 }, (_, i) => ({ match: { agent_type: `a${i}` }, cluster: 'code' }));
  await plane.apply({ outbound: { routes: many, clusters } });
  const among = await client.unary(message, { path: taskPath });
  t.match(among.details, /agent_type a0, a1, .*, a19 and 10 more$/, 'no more than fits in trailers');
  t.equal(plane.sidecar.outbound.stats.rejected.get('no_route'), 3, 'all are counted');
  t.equal(plane.sidecar.outbound.stats.activeCalls, 0);
});

t.test('the first route of which every condition matches wins', async (t) => {
  const { plane } = await startRouted(
    t,
    ['a', 'b', 'c', 'rest'],
    [
      { match: { authority: 'Agents', path_prefix: '/one.' }, cluster: 'a' },
      { match: { authority: 'agents:7000' }, cluster: 'b' },
      { match: { headers: { 'X-Tenant': 'blue', 'x-tier': '1' } }, cluster: 'c' },
      { match: { path_prefix: '/one.Service/Me' }, cluster: 'rest' },
      { match: { path_prefix: '/one.' }, cluster: 'a' },
    ],
  );
  const path = '/one.Service/Method';
  const blue = { 'x-tenant': 'blue', 'x-tier': '1' };
  t.equal(await whoAnswers(t, plane, { host: 'agents', path }), 'a');
  t.equal(await whoAnswers(t, plane, { host: 'AGENTS:7000', path }), 'a', 'the port is left out of account');
  t.equal(await whoAnswers(t, plane, { host: 'agents:7000' }), 'b', 'unless the rule names it');
  t.equal(await whoAnswers(t, plane, { host: 'agents:7001' }), 'UNIMPLEMENTED no_route');
  t.equal(await whoAnswers(t, plane, { headers: blue }), 'c');
  t.equal(await whoAnswers(t, plane, { headers: { 'x-tenant': 'blue' } }), 'UNIMPLEMENTED no_route');
  t.equal(await whoAnswers(t, plane, { headers: { ...blue, 'x-tier': '11' } }), 'UNIMPLEMENTED no_route');
  t.equal(
    await whoAnswers(t, plane, { path, headers: blue }),
    'c',
    'the third rule stands before the fourth',
  );
  t.equal(await whoAnswers(t, plane, { path }), 'rest');
  t.equal(await whoAnswers(t, plane, { path: '/one.Service/Other' }), 'a');
});

t.test('agent_type routes tasks, and only tasks', async (t) => {
  const { plane, upstreams } = await startRouted(
    t,
    ['code', 'writing', 'rest'],
    [
      { match: { agent_type: 'code' }, cluster: 'code' },
      { match: { authority: 'agents', agent_type: 'writing' }, cluster: 'writing' },
      { match: { path_prefix: '/' }, cluster: 'rest' },
    ],
  );
  const ask = (task: Parameters<typeof taskRequest>[0], more: Asked = {}): Promise<string> =>
    whoAnswers(t, plane, { path: taskPath, message: taskRequest(task), ...more });
  t.equal(await ask({ id: '1', type: 'code', input: 'x' }), 'code');
  t.equal(await ask({ type: 'writing' }), 'rest');
  t.equal(await ask({ type: 'writing' }, { host: 'agents' }), 'writing');
  t.equal(await ask({ type: 'Code' }), 'rest', 'types are compared as they are');
  t.equal(await ask({}), 'rest', 'an empty message has no type');
  t.equal(await ask({ type: 'code' }, { path: '/other.Service/ProcessTask' }), 'rest', 'not a task');

  const input = 'long '.repeat(60_000);
  const large = taskRequest({ id: '1', type: 'code', input });
  t.equal(await ask({ id: '1', type: 'code', input }), 'code', 'a task of 300 KB');
  t.ok(upstreams['code']!.calls.at(-1)!.body.equals(grpcFrame(large)), 'which arrives as it was sent');
  t.equal(await ask({ id: '1', type: 'other', input }), 'rest');
  t.equal(await ask({ input }), 'rest');
});

t.test('a task is routed, however its first message is split into frames', async (t) => {
  const { plane, upstreams } = await startRouted(
    t,
    ['code', 'rest'],
    [
      { match: { agent_type: 'code' }, cluster: 'code' },
      { match: {}, cluster: 'rest' },
    ],
  );
  const peer = (await H2Peer.connect(t, plane.outboundPort)).behave();
  const message = grpcFrame(taskRequest({ id: 'task-1', type: 'code', input: 'why' }));
  const answered = (id: number): Promise<void> => peer.until(`${id} was answered`, () => peer.ended.has(id));

  await peer.headers(1, grpcRequest(taskPath));
  for (const byte of message) await peer.data(1, Buffer.from([byte]));
  await waitUntil('the head came', () => upstreams['code']!.calls.length === 1);
  t.pass('the route is known before the request is complete');
  await peer.data(1, Buffer.alloc(0), true);
  await answered(1);
  t.ok(upstreams['code']!.calls[0]!.body.equals(message));

  await peer.headers(3, grpcRequest('/agent.AgentService/Chat'));
  await peer.data(3, Buffer.concat([message, grpcFrame(taskRequest({ type: 'other' }))]));
  await waitUntil('the head came', () => upstreams['code']!.calls.length === 2);
  await peer.data(3, message, true);
  await answered(3);
  t.equal(upstreams['code']!.calls[1]!.body.length, message.length * 2 + 5 + 7, 'the first of many decides');

  await peer.headers(5, grpcRequest(taskPath), true);
  await answered(5);
  t.equal(upstreams['rest']!.calls.length, 1, 'a request without any message');
  await peer.headers(7, grpcRequest(taskPath));
  await peer.data(7, Buffer.alloc(0), true);
  await answered(7);
  t.equal(upstreams['rest']!.calls.length, 2, 'and one that says so with an empty frame');
  await peer.headers(9, grpcRequest(taskPath));
  await peer.data(9, message.subarray(0, 9));
  await peer.send(frame(frameType.headers, flag.endHeaders | flag.endStream, 9));
  await answered(9);
  t.equal(upstreams['rest']!.calls.length, 3, 'trailers end the waiting too');
  t.equal(plane.sidecar.wheel.size, 0 + timersOfConnections(plane), 'no call has left a timer behind');
});

/** A code agent and one for all others, with a caller whose frames are the test's own. */
async function startTyped(t: Test) {
  const { plane, upstreams } = await startRouted(
    t,
    ['code', 'rest'],
    [
      { match: { agent_type: 'code' }, cluster: 'code' },
      { match: {}, cluster: 'rest' },
    ],
  );
  const peer = (await H2Peer.connect(t, plane.outboundPort)).behave();
  let id = -1;
  const ask = async (encoding: string | undefined, body: Buffer, pieceBytes = 16_384, path = taskPath) => {
    id += 2;
    const call = id;
    await peer.headers(
      call,
      grpcRequest(path, ...(encoding === undefined ? [] : [['grpc-encoding', encoding] as const])),
    );
    for (let at = 0; at < body.length; at += pieceBytes)
      await peer.data(call, body.subarray(at, at + pieceBytes), at + pieceBytes >= body.length);
    await peer.until('it was answered', () => peer.ended.has(call));
    const field = (name: string) => peer.field(call, name);
    const who = Object.entries(upstreams).find(([, { calls }]) =>
      calls.some(({ body: seen }) => seen.equals(body)),
    );
    return {
      who: who?.[0],
      status: Number(field('grpc-status')),
      reason: field('outrigger-reason'),
      message: decodeURIComponent(field('grpc-message') ?? ''),
    };
  };
  return { plane, upstreams, ask };
}

const compressed = (bytes: Buffer): Buffer => {
  const message = grpcFrame(bytes);
  message[0] = 1;
  return message;
};
const packed = {
  gzip: gzipSync,
  deflate: deflateSync,
  zstd: zstdCompressSync,
  br: brotliCompressSync,
} satisfies Record<string, (bytes: Buffer) => Buffer>;

t.test('agent_type is read in compressed tasks, too', async (t) => {
  const { ask } = await startTyped(t);
  for (const [encoding, pack] of Object.entries(packed)) {
    for (const [type, who] of [
      ['code', 'code'],
      ['poetry', 'rest'],
    ] as const) {
      for (const inputBytes of [0, 1_000, 300_000]) {
        const input = randomBytes(inputBytes / 2).toString('hex') || 'short';
        const body = compressed(pack(taskRequest({ id: encoding, type, input })));
        const what = `${encoding}, ${type}, ${inputBytes} bytes`;
        t.match(await ask(encoding, body), { who, status: 0 }, what);
        if (inputBytes === 1_000)
          t.match(await ask(encoding, body, 1), { who, status: 0 }, `${what}, byte by byte`);
      }
    }
  }
  const gzip = gzipSync(taskRequest({ type: 'code', input: 'in two members' }));
  t.match(await ask('gzip', compressed(Buffer.concat([gzip, gzipSync(Buffer.alloc(0))]))), { who: 'code' });
  const repeated = taskRequest({ type: 'code', input: 'x'.repeat(8_000_000) });
  t.match(
    await ask('gzip', compressed(gzipSync(repeated))),
    { who: 'code', status: 0 },
    'a bomb is read at its beginning',
  );
  t.match(
    await ask('gzip', grpcFrame(taskRequest({ type: 'code' }))),
    { who: 'code' },
    'the encoding need not be used',
  );
});

t.test('an unreadable task is refused if the route depends on it', async (t) => {
  const { ask, plane, upstreams } = await startTyped(t);
  const task = taskRequest({ type: 'code', input: 'what cannot be read' });
  const gzip = gzipSync(task);
  const unread: [what: string, encoding: string | undefined, body: Buffer, code: number, says: RegExp][] = [
    [
      'an unknown encoding',
      'snappy',
      compressed(task),
      12,
      /snappy can't be read here; compress it by gzip, deflate/,
    ],
    ['no encoding', undefined, compressed(gzip), 13, /flag is 1 with no grpc-encoding/],
    ['identity', 'identity', compressed(gzip), 13, /flag is 1 with no grpc-encoding/],
    ['another encoding', 'deflate', compressed(gzip), 13, /not deflate, or was cut/],
    ['a message that was cut', 'gzip', compressed(gzip.subarray(0, -9)), 13, /not gzip, or was cut/],
    ['a message that was never compressed', 'gzip', compressed(task), 13, /not gzip/],
    ['a message with more behind it', 'gzip', compressed(Buffer.concat([gzip, task])), 13, /not gzip/],
    ['an empty one', 'gzip', compressed(Buffer.alloc(0)), 13, /not gzip/],
    [
      'another flag',
      'gzip',
      Buffer.concat([Buffer.from([7]), compressed(gzip).subarray(1)]),
      13,
      /flag is 7 with gzip/,
    ],
  ];
  for (const [what, encoding, body, status, says] of unread) {
    const answer = await ask(encoding, body);
    t.match(answer, { who: undefined, status, reason: 'unreadable_message', message: says }, what);
  }
  // A length that promises more than comes: the app hears what came, as from its caller.
  const lies = compressed(gzip);
  lies.writeUInt32BE(gzip.length + 100, 1);
  t.match(await ask('gzip', lies), { who: 'code' }, 'what is there is read');
  t.equal(plane.sidecar.outbound.stats.rejected.get('unreadable_message'), unread.length);

  // Where nothing hangs on it, it is the app's to read.
  t.match(await ask('snappy', compressed(task), 16_384, '/other.Service/Method'), { who: 'rest', status: 0 });
  await plane.apply({
    outbound: {
      routes: [{ match: {}, cluster: 'rest' }],
      clusters: { rest: { endpoints: [upstreams['rest']!.address], balancer: 'ring_hash' } },
    },
  });
  t.match(await ask('snappy', compressed(taskRequest({ id: 'a', type: 'code' }))), {
    who: 'rest',
    status: 0,
  });
});

t.test('a caller that resets before its first message leaves nothing behind', async (t) => {
  const { plane } = await startRouted(t, ['code'], [{ match: { agent_type: 'code' }, cluster: 'code' }]);
  const peer = (await H2Peer.connect(t, plane.outboundPort)).behave();
  await peer.headers(1, grpcRequest(taskPath, ['grpc-timeout', '10S']));
  await peer.data(1, Buffer.from([0, 0]));
  await peer.reset(1, 8);
  await peer.headers(3, grpcRequest('/x.Y/Z'), true);
  await peer.until('the next was answered', () => peer.ended.has(3));
  t.equal(plane.sidecar.outbound.stats.activeCalls, 0);
  t.equal(plane.sidecar.wheel.size, timersOfConnections(plane));
});

t.test('ring_hash sends one task id to one endpoint, and many ids to all of them', async (t) => {
  const names = ['0', '1', '2', '3'];
  const upstreams = await Promise.all(names.map((name) => startUpstream(t, { name })));
  const plane = await startDataPlane(t, {
    outbound: {
      clusters: {
        agents: { endpoints: upstreams.map(({ address }) => address), balancer: 'ring_hash' },
      },
    },
  });
  const client = new RawClient(t, plane.outboundPort);
  const gzip = new RawClient(t, plane.outboundPort, { 'grpc.default_compression_algorithm': 2 });
  const used = new Set<string>();
  for (let id = 0; id < 80; id++) {
    const answers = await Promise.all(
      ['/agent.AgentService/ProcessTask', '/agent.AgentService/StreamProcess', taskPath].map((path) =>
        client.unary(taskRequest({ id: `task-${id}`, type: 'x' }), { path, host: 'agents' }),
      ),
    );
    const compressed = await gzip.unary(taskRequest({ id: `task-${id}`, type: 'x' }), {
      path: taskPath,
      host: 'agents',
    });
    const [first, ...others] = [...answers, compressed].map(({ response }) => String(response));
    for (const other of others) t.equal(other, first, `task-${id}`);
    used.add(first!);
  }
  t.strictSame([...used].sort(), names);
});

/** Connections arm timers of their own; a call's would come on top. */
function timersOfConnections(plane: DataPlane): number {
  let keepalives = 0;
  for (const { endpoints, outliers } of plane.sidecar.outbound.clusters.clusters.values()) {
    for (const { pool } of endpoints) keepalives += pool.connectionCount;
    if (outliers.armed) keepalives++;
  }
  // The app's health is looked at by two timers at most: its next look, and the pool's next try.
  return keepalives + timersOfApp(plane);
}

function timersOfApp(plane: DataPlane): number {
  const { appHealth, app } = plane.sidecar.inbound;
  return Number(appHealth.armed) + Number(app.endpoints[0]!.pool.armed);
}
