// An API server that knows EndpointSlices alone: HTTPS, a token, lists, and watches with versions, as the real one has them.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { TestAuthority } from '../../scripts/harness/certificates.ts';
import type { EndpointSlice } from '../../sidecar/cluster/discovery/endpoint-slices.ts';

const TOKEN = 'a-token-of-the-test';

export interface FakeEndpoint {
  readonly ip?: string;
  /** The name of its pod, whose ports can be asked through the API server. */
  readonly pod?: string;
  readonly zone?: string;
  readonly ready?: boolean;
  readonly serving?: boolean;
  readonly terminating?: boolean;
}

interface Change {
  readonly version: number;
  readonly type: string;
  readonly object: EndpointSlice;
}

export class FakeKubernetesApi {
  /** `list`, or `watch` with the version it began from. */
  readonly requests: string[] = [];
  readonly zones = new Map<string, string>();
  /** What lists of pods and Services have. */
  pods: readonly object[] = [];
  services: readonly object[] = [];
  /** What the next requests are answered with instead; 0 is as usual, -1 no answer at all. */
  failWith = 0;
  /** Requests that got no answer for it. */
  unanswered = 0;
  kubeconfig = '';
  private version = 100;
  private oldest = 0;
  private readonly slices = new Map<string, EndpointSlice>();
  private readonly changes: Change[] = [];
  private readonly watches = new Set<ServerResponse>();
  private server!: ReturnType<typeof createServer>;
  private port = 0;
  private readonly service: string;

  private constructor(service: string) {
    this.service = service;
  }

  static async start(t: Pick<Test, 'teardown'>, service = 'writing-agent'): Promise<FakeKubernetesApi> {
    const api = new FakeKubernetesApi(service);
    const authority = await TestAuthority.make('kubernetes');
    const { cert, key } = await authority.issue({ names: ['127.0.0.1'] });
    api.server = createServer({ cert, key }, (request, response) => api.answer(request, response));
    await api.listen();
    const folder = mkdtempSync(join(tmpdir(), 'outrigger-api-'));
    api.kubeconfig = join(folder, 'kubeconfig');
    const cluster = {
      server: `https://127.0.0.1:${api.port}`,
      'certificate-authority-data': Buffer.from(authority.ca).toString('base64'),
    };
    writeFileSync(
      api.kubeconfig,
      JSON.stringify({
        apiVersion: 'v1',
        kind: 'Config',
        clusters: [{ name: 'c', cluster }],
        users: [{ name: 'u', user: { token: TOKEN } }],
        contexts: [{ name: 'x', context: { cluster: 'c', user: 'u', namespace: 'agents' } }],
        'current-context': 'x',
      }),
    );
    t.teardown(() => {
      api.stop();
      rmSync(folder, { recursive: true, force: true });
    });
    return api;
  }

  private listen(): Promise<void> {
    return new Promise((resolve) => {
      this.server.listen(this.port, '127.0.0.1', () => {
        this.port = (this.server.address() as AddressInfo).port;
        resolve();
      });
    });
  }

  /** Connections are cut, and refused from now on. */
  stop(): void {
    this.server.close();
    this.server.closeAllConnections();
    this.watches.clear();
  }

  /** Where it was. */
  restart(): Promise<void> {
    return this.listen();
  }

  get watching(): number {
    return this.watches.size;
  }

  /** One slice of the Service, whose port `grpc` has this number. */
  set(
    name: string,
    port: number,
    endpoints: readonly FakeEndpoint[],
    more: Partial<EndpointSlice> = {},
  ): void {
    const known = this.slices.has(name);
    const object = {
      metadata: {
        name,
        resourceVersion: `${this.version + 1}`,
        labels: { 'kubernetes.io/service-name': this.service },
      },
      addressType: 'IPv4',
      endpoints: endpoints.map(({ ip = '127.0.0.1', pod, zone, ...conditions }) => ({
        addresses: [ip],
        conditions,
        ...(zone === undefined ? {} : { zone }),
        ...(pod === undefined ? {} : { targetRef: { kind: 'Pod', name: pod, uid: pod } }),
      })),
      ports: [{ name: 'grpc', port, protocol: 'TCP' }],
      ...more,
    };
    this.slices.set(name, object);
    this.change(known ? 'MODIFIED' : 'ADDED', object);
  }

  remove(name: string): void {
    const object = this.slices.get(name)!;
    this.slices.delete(name);
    this.change('DELETED', { ...object, metadata: { name, resourceVersion: `${this.version + 1}` } });
  }

  private change(type: string, object: EndpointSlice): void {
    const change = { version: ++this.version, type, object };
    this.changes.push(change);
    for (const watch of this.watches) watch.write(`${JSON.stringify({ type, object })}\n`);
  }

  /** As if much else had happened: nobody can go on from a version of before. */
  compact(): void {
    this.oldest = ++this.version;
  }

  bookmark(): void {
    const object = { kind: 'EndpointSlice', metadata: { resourceVersion: `${++this.version}` } };
    this.send({ type: 'BOOKMARK', object });
  }

  send(event: unknown): void {
    for (const watch of this.watches) watch.write(`${JSON.stringify(event)}\n`);
  }

  /** In the middle of a line. */
  cutWatches(): void {
    for (const watch of this.watches) {
      watch.write('{"type":"MODIFIED","object":{"metadata":{"na');
      setImmediate(() => watch.destroy());
    }
    this.watches.clear();
  }

  /** As the server does after some minutes. */
  endWatches(): void {
    for (const watch of this.watches) watch.end();
    this.watches.clear();
  }

  private answer(request: IncomingMessage, response: ServerResponse): unknown {
    const url = new URL(request.url ?? '', 'https://api');
    const watch = url.searchParams.get('watch') === 'true';
    const from = url.searchParams.get('resourceVersion') ?? '';
    const node = /^\/api\/v1\/nodes\/([^/]+)$/.exec(url.pathname)?.[1];
    this.requests.push(node === undefined ? (watch ? `watch ${from}` : 'list') : `node ${node}`);
    const json = (status: number, body: unknown): void => {
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    };
    const status = (code: number) => json(code, { kind: 'Status', code, message: `status ${code}` });
    if (this.failWith === -1) {
      this.unanswered++;
      return undefined;
    }
    if (this.failWith !== 0) return status(this.failWith);
    if (request.headers.authorization !== `Bearer ${TOKEN}`) return status(401);
    if (node !== undefined) {
      const zone = this.zones.get(node);
      if (zone === undefined) return status(403);
      return json(200, {
        kind: 'Node',
        metadata: { name: node, labels: { 'topology.kubernetes.io/zone': zone } },
      });
    }
    const kind = /^\/api\/v1\/namespaces\/agents\/(services|pods)$/.exec(url.pathname)?.[1];
    if (kind !== undefined) return json(200, { items: kind === 'pods' ? this.pods : this.services });
    const proxied = /^\/api\/v1\/namespaces\/agents\/pods\/([a-z0-9-]+):(\d+)\/proxy(\/.*)$/.exec(
      decodeURIComponent(url.pathname),
    );
    if (proxied !== null) {
      const [, pod, port, path] = proxied;
      const hosts = [...this.slices.values()].flatMap(({ endpoints = [] }) => endpoints ?? []);
      if (!hosts.some(({ targetRef }) => targetRef?.uid === pod)) return status(404);
      return request.pipe(
        httpRequest({ port: Number(port), path }, (answer) => {
          response.writeHead(answer.statusCode!, answer.headers);
          answer.pipe(response);
        }).on('error', () => status(503)),
      );
    }
    if (url.pathname !== '/apis/discovery.k8s.io/v1/namespaces/agents/endpointslices') return status(404);
    if (url.searchParams.get('labelSelector') !== `kubernetes.io/service-name=${this.service}`)
      return status(400);
    if (!watch) {
      const metadata = { resourceVersion: `${this.version}` };
      return json(200, { kind: 'EndpointSliceList', metadata, items: [...this.slices.values()] });
    }
    if (Number(from) < this.oldest) {
      // The real one answers 200 and says it in the stream.
      response.writeHead(200, { 'content-type': 'application/json' });
      const object = { kind: 'Status', code: 410, reason: 'Expired', message: 'too old resource version' };
      return response.end(`${JSON.stringify({ type: 'ERROR', object })}\n`);
    }
    response.writeHead(200, { 'content-type': 'application/json' });
    response.flushHeaders();
    for (const { version, type, object } of this.changes)
      if (version > Number(from)) response.write(`${JSON.stringify({ type, object })}\n`);
    this.watches.add(response);
    return response.on('close', () => this.watches.delete(response));
  }
}
