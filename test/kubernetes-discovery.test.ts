// Endpoints by the EndpointSlices of a Service, from an API server that changes, lies down, forgets and refuses.
import { status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { type DataPlane, policiesOff, startDataPlane } from '../scripts/harness/data-plane.ts';
import { RawClient } from '../scripts/harness/raw-grpc.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { type EndpointSlice, readSlices } from '../sidecar/cluster/discovery/endpoint-slices.ts';
import { FakeKubernetesApi } from './support/kubernetes-api.ts';
import { answerWith, type SeenCall, startUpstream } from './support/upstream.ts';

type Section = Record<string, unknown>;

t.setTimeout(290_000);

interface Started {
  readonly api: FakeKubernetesApi;
  readonly plane: DataPlane;
  readonly errors: string[];
  addresses(): string[];
}

async function start(
  t: Test,
  prepare: (api: FakeKubernetesApi) => void,
  kubernetes: Section = {},
  cluster: Section = {},
): Promise<Started> {
  const api = await FakeKubernetesApi.start(t);
  prepare(api);
  const before = process.env['KUBECONFIG'];
  process.env['KUBECONFIG'] = api.kubeconfig;
  t.teardown(() => {
    if (before === undefined) delete process.env['KUBECONFIG'];
    else process.env['KUBECONFIG'] = before;
  });
  const errors: string[] = [];
  const upstream = {
    kubernetes: { service: 'writing-agent', port: 'grpc', ...kubernetes },
    ...policiesOff,
    ...cluster,
  };
  const content = {
    outbound: { routes: [{ match: { path_prefix: '/' }, cluster: 'upstream' }], clusters: { upstream } },
  };
  const plane = await startDataPlane(t, content, {
    onDiscoveryError: (_cluster, error) => errors.push(error.message),
  });
  const addresses = () =>
    plane.sidecar.outbound.clusters.clusters.get('upstream')!.endpoints.map(({ address }) => address);
  return { api, plane, errors, addresses };
}

t.test(
  'ready endpoints get calls, terminating ones no new ones, and a call in flight completes',
  async (t) => {
    const held: SeenCall[] = [];
    const one = await startUpstream(t, { onCall: (call) => held.push(call) });
    const two = await startUpstream(t, { name: 'two' });
    const { api, plane, addresses, errors } = await start(t, (api) => {
      api.set('a', one.port, [
        { ready: true, serving: true, terminating: false },
        { ip: '127.0.0.9', ready: false },
      ]);
    });
    await waitUntil('it was listed', () => addresses().length === 1);
    t.strictSame(addresses(), [one.address]);
    const client = new RawClient(t, plane.outboundPort);
    const first = client.unary(Buffer.from('x'));
    await waitUntil('the call is there', () => held.length === 1);
    await waitUntil('it watches', () => api.watching === 1);
    api.set('b', two.port, [{ ready: true }]);
    api.set('a', one.port, [{ ready: false, serving: true, terminating: true }]);
    await waitUntil('the other one is used', () => addresses().join() === two.address);
    for (let i = 0; i < 5; i++) t.equal(String((await client.unary(Buffer.from('x'))).response), 'two');
    t.equal(held.length, 1, 'the one that terminates got no new call');
    answerWith(held[0]!.stream, 'one');
    t.equal(String((await first).response), 'one');
    api.remove('b');
    await waitUntil('none is left', () => addresses().length === 0);
    const none = await client.unary(Buffer.from('x'));
    t.equal(none.code, status.UNAVAILABLE, "the API's list is authoritative");
    t.strictSame(errors, []);
  },
);

t.test('a watch that ends, breaks or is too old is renewed, and misses no change', async (t) => {
  const { api, addresses, errors } = await start(t, (api) => api.set('a', 1_001, [{}]));
  const expectPort = (port: number) =>
    waitUntil(`port ${port} is known`, () => addresses().join() === `127.0.0.1:${port}`);
  await expectPort(1_001);
  await waitUntil('it watches', () => api.watching === 1);
  api.bookmark();
  api.set('a', 1_002, [{}]);
  await expectPort(1_002);
  const { length } = api.requests;
  api.endWatches();
  api.set('a', 1_003, [{}]);
  await expectPort(1_003);
  await waitUntil('it watches again', () => api.watching === 1);
  api.cutWatches();
  await waitUntil('it was cut', () => api.watching === 0);
  api.set('a', 1_004, [{}]);
  await expectPort(1_004);
  t.notOk(
    api.requests.slice(length).includes('list'),
    `it went on from a version: ${api.requests.slice(length)}`,
  );
  await waitUntil('it watches once more', () => api.watching === 1);
  api.endWatches();
  api.compact();
  api.set('a', 1_005, [{}]);
  await expectPort(1_005);
  t.ok(api.requests.slice(length).includes('list'), 'from the beginning if the version has expired');
  await waitUntil('it watches in the end', () => api.watching === 1);
  api.send('nonsense');
  api.send({ type: 'MODIFIED', object: { metadata: { name: 'b' }, endpoints: null } });
  api.set('a', 1_006, [{}]);
  await expectPort(1_006);
  t.ok(errors.length <= 1, errors.join());
});

t.test('the last endpoints stay in use while the API is unavailable', async (t) => {
  const upstream = await startUpstream(t);
  const { api, plane, addresses, errors } = await start(t, (api) => api.set('a', upstream.port, [{}]));
  const client = new RawClient(t, plane.outboundPort);
  t.equal((await client.unary(Buffer.from('x'))).code, status.OK, 'the first call waits for the list');
  await waitUntil('it watches', () => api.watching === 1);
  api.stop();
  await waitUntil('it was noticed', () => errors.length === 1);
  t.match(
    errors[0],
    /EndpointSlices of agents\/writing-agent: can't watch: .*; the last endpoints stay in use/,
  );
  t.equal((await client.unary(Buffer.from('x'))).code, status.OK);
  t.strictSame(addresses(), [upstream.address]);
  await api.restart();
  const other = await startUpstream(t, { name: 'other' });
  api.set('a', other.port, [{}]);
  await waitUntil('it has caught up', () => addresses().join() === other.address);
  t.equal(String((await client.unary(Buffer.from('x'))).response), 'other');
  t.equal(errors.length, 1, 'reported once');
});

t.test('a missing permission or object is reported with its remedy, and retried', async (t) => {
  const { api, errors, addresses } = await start(t, (api) => {
    api.failWith = 403;
    api.set('a', 1_001, [{}]);
  });
  await waitUntil('it was said', () => errors.length === 1);
  t.match(
    errors[0],
    /can't list: this service account lacks the permission \(403\); give it the Role of docs\/tls.md/,
  );
  api.failWith = 0;
  await waitUntil('it is there', () => addresses().length === 1);
  const empty = await start(t, () => {}, { namespace: 'agents' });
  await waitUntil('it was said', () => empty.errors.length === 1);
  t.match(
    empty.errors[0],
    /agents\/writing-agent: has no EndpointSlices; check the names of Service and namespace/,
  );
  empty.api.set('a', 1_002, [{}]);
  await waitUntil('it came', () => empty.addresses().length === 1);
});

t.test('healthy endpoints of our zone get the calls, and a retry goes to other zones', async (t) => {
  const fails = new Set<string>();
  const named = (name: string) =>
    startUpstream(t, {
      name,
      onCall: (call) =>
        call.stream.on('end', () => {
          if (!fails.has(name)) answerWith(call.stream, name);
          else
            call.stream.respond(
              { ':status': 200, 'content-type': 'application/grpc', 'grpc-status': '14' },
              { endStream: true },
            );
        }),
    });
  const upstreams = await Promise.all(['here-1', 'here-2', 'there-1', 'there-2'].map(named));
  const { api, plane, addresses } = await start(
    t,
    (api) => {
      for (const [i, { port }] of upstreams.entries())
        api.set(`s${i}`, port, [{ zone: i < 2 ? 'z1' : 'z2' }]);
    },
    { zone: 'z1' },
    { retry: { max_attempts: 3, idempotent_methods: ['/test.Raw/Unary'], budget: { percent: 100 } } },
  );
  await waitUntil('all are known', () => addresses().length === 4);
  const client = new RawClient(t, plane.outboundPort);
  const ask = async (count: number): Promise<Set<string>> => {
    const found = await Promise.all(Array.from({ length: count }, () => client.unary(Buffer.from('x'))));
    return new Set(found.map(({ response, details }) => String(response ?? details)));
  };
  t.strictSame([...(await ask(40))].sort(), ['here-1', 'here-2']);
  const cluster = plane.sidecar.outbound.clusters.clusters.get('upstream')!;
  t.equal(cluster.zoneEndpoints.active, true);
  fails.add('here-1').add('here-2');
  const retried = await ask(10);
  t.ok(
    [...retried].every((name) => name.startsWith('there')),
    `retries went beyond: ${[...retried]}`,
  );
  fails.clear();
  upstreams[0]!.stop();
  upstreams[1]!.stop();
  await waitUntil('both are known to be absent', async () => {
    await ask(1);
    return !cluster.zoneEndpoints.active;
  });
  t.ok(
    [...(await ask(10))].every((name) => name.startsWith('there')),
    'the other zone takes over',
  );
  api.remove('s0');
  api.remove('s1');
  await waitUntil('they are absent', () => addresses().length === 2);
  t.equal(cluster.zoneEndpoints.active, false);
});

t.test('our zone is that of our node', async (t) => {
  process.env['NODE_NAME'] = 'node-1';
  t.teardown(() => {
    delete process.env['NODE_NAME'];
  });
  const prepare = (api: FakeKubernetesApi): void => {
    api.zones.set('node-1', 'z2');
    api.set('s', 1_001, [
      { ip: '127.0.0.1', zone: 'z1' },
      { ip: '127.0.0.2', zone: 'z2' },
    ]);
  };
  const { plane } = await start(t, prepare);
  const near = ({ sidecar }: DataPlane): boolean =>
    sidecar.outbound.clusters.clusters.get('upstream')!.zoneEndpoints.active;
  await waitUntil('it prefers', () => near(plane));
  const off = await start(t, prepare, { zone_preference: false });
  await waitUntil('it is known', () => off.addresses().length === 2);
  t.equal(near(off.plane), false);
  t.notOk(off.api.requests.includes('node node-1'), 'the node is not asked for then');
  const refused = await start(t, (api) => {
    prepare(api);
    api.zones.clear();
  });
  await waitUntil('it was said', () => refused.errors.length === 1);
  t.match(refused.errors[0], /the zone of node node-1 is unknown, so the sidecar prefers no zone: .*403/);
  await waitUntil('and the endpoints are used', () => refused.addresses().length === 2);
});

t.test('the sidecar merges EndpointSlices', async (t) => {
  const slice = (
    endpoints: EndpointSlice['endpoints'],
    more: Partial<EndpointSlice> = {},
  ): EndpointSlice => ({
    addressType: 'IPv4',
    ports: [{ name: 'grpc', port: 7 }],
    endpoints: endpoints ?? null,
    ...more,
  });
  const at = (address: string, more = {}) => ({ addresses: [address], ...more });
  const addressesOf = (slices: EndpointSlice[], port: string | number = 'grpc') =>
    readSlices(slices, { port, zone: undefined }).addresses;
  t.strictSame(addressesOf([slice([at('10.0.0.2'), at('10.0.0.1')])]), ['10.0.0.1:7', '10.0.0.2:7']);
  t.strictSame(
    addressesOf([slice([at('10.0.0.1')])], 15_006),
    ['10.0.0.1:15006'],
    'a number is taken as it is',
  );
  t.strictSame(addressesOf([slice([at('10.0.0.1')])], 'http'), [], 'no port of that name');
  t.strictSame(addressesOf([slice([at('a.example')], { addressType: 'FQDN' })]), []);
  t.strictSame(addressesOf([slice(null), slice([{ addresses: null }, at('not an address')])]), []);
  const pod = { targetRef: { uid: 'u1' } };
  const both = [slice([at('fd00::1', pod)], { addressType: 'IPv6' }), slice([at('10.0.0.1', pod)])];
  t.strictSame(addressesOf(both), ['10.0.0.1:7'], 'one pod, two families');
  t.strictSame(addressesOf([both[0]!]), ['[fd00::1]:7']);
  const conditions = (ready: boolean | null, terminating: boolean | null) => ({
    conditions: { ready, terminating },
  });
  t.strictSame(
    addressesOf([
      slice([
        at('10.0.0.1', conditions(null, null)),
        at('10.0.0.2', conditions(true, true)),
        at('10.0.0.3', conditions(false, null)),
      ]),
    ]),
    ['10.0.0.1:7'],
  );
  const spread = (here: number, there: number) =>
    readSlices(
      [
        slice(
          Array.from({ length: here + there }, (_, i) => at(`10.0.0.${i}`, { zone: i < here ? 'a' : 'b' })),
        ),
      ],
      { port: 'grpc', zone: 'a' },
    ).inZone.length;
  t.equal(spread(2, 2), 2);
  t.equal(spread(1, 3), 1, 'half of an even share is enough');
  t.equal(spread(1, 4), 0, 'less would be too much for them');
  t.equal(spread(3, 0), 0, 'one zone alone needs no preference');
  t.equal(readSlices([slice([at('10.0.0.1', { zone: 'b' })])], { port: 'grpc', zone: 'a' }).inZone.length, 0);
  const many = Array.from({ length: 5_000 }, (_, i) => at(`10.0.${i >> 8}.${i & 255}`));
  t.equal(addressesOf([slice(many)]).length, 4_096, 'bounded');
});
