// Servers that nobody here wrote, as the HTTP/2 side of a provider: each passes requests on to a backend, over HTTP/1.1.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import { temporaryFolder } from '../../scripts/harness/faults/mesh.ts';
import { startProcess, type TestProcess } from '../../scripts/harness/process.ts';
import { requireTool, type ToolName } from '../../scripts/harness/tool.ts';

/** What a front is told. */
interface FrontSettings {
  readonly port: number;
  readonly backendPort: number;
  /** The paths of its certificate and key. */
  readonly cert: string;
  readonly key: string;
  /** Streams of one connection at a time, and requests until it sends GOAWAY. */
  readonly streams: number;
  readonly requests: number;
}

export interface RunningFront {
  readonly process: TestProcess;
  /** Begins anew, as for another configuration: what runs is meant to end. */
  restart(): void;
}

export interface Front {
  readonly name: string;
  readonly needs: ToolName;
  start(t: Test, settings: FrontSettings): RunningFront;
}

function fileIn(folder: string, name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

const nginx: Front = {
  name: 'nginx',
  needs: 'nginx',
  start(t, { port, backendPort, cert, key, streams, requests }) {
    const folder = temporaryFolder(t);
    const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
      .map((kind) => `${kind}_temp_path ${folder}/${kind};`)
      .join(' ');
    const config = fileIn(
      folder,
      'nginx.conf',
      `user root; daemon off; master_process on; worker_processes 1; pid ${folder}/nginx.pid; error_log stderr;
      events { worker_connections 512; }
      http {
        access_log off; ${temporary}
        server {
          listen 127.0.0.1:${port} ssl http2;
          ssl_certificate ${cert}; ssl_certificate_key ${key};
          http2_max_concurrent_streams ${streams}; keepalive_requests ${requests};
          client_body_buffer_size 8k;
          location / { proxy_pass http://127.0.0.1:${backendPort}; proxy_buffering off; proxy_http_version 1.1; }
        }
      }`,
    );
    // Its workers are processes of their own, which end with it.
    const started = startProcess(t, requireTool('nginx'), ['-p', folder, '-c', config], { group: true });
    return { process: started, restart: () => void started.child.kill('SIGHUP') };
  },
};

const haproxy: Front = {
  name: 'HAProxy',
  needs: 'haproxy',
  start(t, { port, backendPort, cert, key, streams }) {
    const folder = temporaryFolder(t);
    const pem = fileIn(folder, 'both.pem', `${readFileSync(cert)}${readFileSync(key)}`);
    const config = fileIn(
      folder,
      'haproxy.cfg',
      `global
        hard-stop-after 20s
        tune.h2.max-concurrent-streams ${streams}
        tune.h2.initial-window-size 4096
      defaults
        mode http
        timeout connect 5s
        timeout client 30s
        timeout server 30s
      frontend f
        bind 127.0.0.1:${port} ssl crt ${pem} alpn h2,http/1.1
        default_backend b
      backend b
        server s 127.0.0.1:${backendPort}
`,
    );

    const started = startProcess(t, requireTool('haproxy'), ['-W', '-f', config], { group: true });
    return { process: started, restart: () => void started.child.kill('SIGUSR2') };
  },
};

let begun = 0;

const envoy: Front = {
  name: 'Envoy',
  needs: 'envoy',
  start(t, settings) {
    const folder = temporaryFolder(t);
    const config = fileIn(folder, 'envoy.json', JSON.stringify(envoyConfig(settings)));
    // A port that this test has for itself makes numbers that no other Envoy has; one that was killed may hold its own for a while.
    const common = [
      '-c',
      config,
      '--concurrency',
      '1',
      '-l',
      'error',
      '--base-id',
      `${10 * settings.port + begun++}`,
    ];
    const times = ['--drain-time-s', '1', '--parent-shutdown-time-s', '3'];
    const program = requireTool('envoy');
    const running = {
      process: startProcess(t, program, [...common, ...times]),
      // A hot restart: the next one takes the sockets over, and the first one drains.
      restart() {
        running.process = startProcess(t, program, [...common, ...times, '--restart-epoch', '1']);
      },
    };
    return running;
  },
};

function envoyConfig({ port, backendPort, cert, key, streams, requests }: FrontSettings): object {
  const address = (port_value: number) => ({ socket_address: { address: '127.0.0.1', port_value } });
  const type = (name: string) => `type.googleapis.com/envoy.extensions.${name}`;
  const manager = {
    '@type': type('filters.network.http_connection_manager.v3.HttpConnectionManager'),
    stat_prefix: 'f',
    codec_type: 'AUTO',
    http2_protocol_options: { max_concurrent_streams: streams, initial_stream_window_size: 65_535 },
    common_http_protocol_options: { max_requests_per_connection: requests },
    drain_timeout: '0.2s',
    route_config: {
      virtual_hosts: [
        {
          name: 'all',
          domains: ['*'],
          routes: [{ match: { prefix: '/' }, route: { cluster: 'b', timeout: '30s' } }],
        },
      ],
    },
    http_filters: [{ name: 'router', typed_config: { '@type': type('filters.http.router.v3.Router') } }],
  };
  const tls = {
    '@type': type('transport_sockets.tls.v3.DownstreamTlsContext'),
    common_tls_context: {
      alpn_protocols: ['h2', 'http/1.1'],
      tls_certificates: [{ certificate_chain: { filename: cert }, private_key: { filename: key } }],
    },
  };
  const endpoint = { endpoint: { address: address(backendPort) } };
  return {
    static_resources: {
      listeners: [
        {
          name: 'l',
          address: address(port),
          filter_chains: [
            {
              transport_socket: { name: 'tls', typed_config: tls },
              filters: [{ name: 'hcm', typed_config: manager }],
            },
          ],
        },
      ],
      clusters: [
        {
          name: 'b',
          connect_timeout: '5s',
          load_assignment: { cluster_name: 'b', endpoints: [{ lb_endpoints: [endpoint] }] },
        },
      ],
    },
  };
}

export const FRONTS: readonly Front[] = [nginx, haproxy, envoy];
