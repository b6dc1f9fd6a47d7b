/**
 * Looks at one gRPC endpoint with the sidecar's own connections: its name resolves, its port accepts, TLS succeeds, it speaks
 * HTTP/2, and its health service answers. It sends one health check, which no app counts as work.
 */
import { lookup } from 'node:dns/promises';
import type { Socket } from 'node:net';
import { type PeerCertificate, TLSSocket } from 'node:tls';
import { TimerWheel } from '../../clock/timer-wheel.ts';
import { WheelDriver } from '../../clock/wheel-driver.ts';
import { openSocket, UpstreamLimits } from '../../cluster/cluster-set.ts';
import { ConnectionPool } from '../../cluster/connection/pool.ts';
import { grpcHealth } from '../../cluster/health/health-request.ts';
import { HealthProbe, type ProbeResult } from '../../cluster/health/probe.ts';
import type { Path } from '../../config/problems.ts';
import { isLiteral, parseAddress } from '../../net/address.ts';
import { type LiveResult, LOOK_MS, ok, problem, warning, within } from './finding.ts';

const SOON_MS = 7 * 86_400_000;
const MAX_HEADER_BYTES = 65_536;

/** Opens a connection to an address; throws, or the socket fails, where that is impossible. */
export type Connect = (address: string) => Socket;

/** @param what for messages: `the agent` */
export async function lookAtEndpoint(
  path: Path,
  address: string,
  what: string,
  connect: Connect = openSocket,
): Promise<LiveResult> {
  const where = parseAddress(address);
  if (where.kind === 'tcp' && !isLiteral(where.host)) {
    const unknown = await unresolved(path, where.host);
    if (unknown !== undefined) return unknown;
  }
  // The wheel's timer keeps no process alive; this one does, and it bounds the look.
  const late: Probed = { result: 'unreachable', failure: '', certificateEnds: Number.NaN };
  const { result, failure, certificateEnds } = await within(3 * LOOK_MS, probe(address, connect), late);
  if (result === 'unreachable' || result === 'turned_away') {
    const silent = 'it accepts connections, and gives no answer in HTTP/2';
    const remedy = `start ${what}, correct the address, or see docs/tls.md where TLS fails`;
    return problem(path, address, failure === '' ? silent : shortOf(failure), remedy);
  }
  if (result === 'not_serving')
    return problem(path, address, 'its health service says that it does not serve', `see the log of ${what}`);
  return soonExpired(path, address, certificateEnds) ?? ok(path, address, DESCRIPTIONS[result]);
}

/** The pool repeats the address, which the report has already. */
function shortOf(failure: string): string {
  return failure.replace(/^connecting to \S+ failed: (the connection failed: )?/, '');
}

const DESCRIPTIONS: Readonly<Record<'serving' | 'busy' | 'no_health_service', string>> = {
  serving: 'it speaks gRPC, and serves',
  busy: 'it speaks HTTP/2, and is too busy to answer a health check',
  no_health_service: 'it speaks HTTP/2, and has no health service, which is no fault',
};

interface Probed {
  readonly result: ProbeResult;
  /** Why no connection was made; '' when one was. */
  readonly failure: string;
  /** When the certificate of the endpoint expires; NaN without one. */
  readonly certificateEnds: number;
}

function probe(address: string, connect: Connect): Promise<Probed> {
  const wheel = new TimerWheel();
  const clock = () => performance.now();
  const driver = new WheelDriver(wheel, clock);
  const limits = new UpstreamLimits(MAX_HEADER_BYTES);
  let socket: Socket | undefined;
  const pool = new ConnectionPool(
    address,
    {
      connectTimeoutMs: LOOK_MS,
      maxConnections: 1,
      maxPendingCalls: 1,
      keepalive: { timeMs: 0, timeoutMs: LOOK_MS },
    },
    {
      wheel,
      clock,
      random: Math.random,
      limits: () => limits.current,
      connect: (to) => {
        socket = connect(to);
        return socket;
      },
    },
    { onStateChange() {}, onConnectFailed() {} },
  );
  return new Promise((resolve) => {
    const started = new HealthProbe({ address, pool }, wheel, LOOK_MS, grpcHealth(''), (result) => {
      const failure = pool.lastFailure;
      const validTo = certificateOf(socket)?.valid_to ?? '';
      pool.close();
      driver.stop();
      socket?.destroy();
      resolve({ result, failure, certificateEnds: Date.parse(validTo) });
    });
    started.start(clock());
  });
}

/** Undefined without TLS, and where the handshake failed: Node then has no certificate, whatever its types say. */
function certificateOf(socket: Socket | undefined): PeerCertificate | null | undefined {
  return socket instanceof TLSSocket ? socket.getPeerCertificate() : undefined;
}

/** An expired certificate fails the handshake; this one soon will. */
function soonExpired(path: Path, address: string, endsMs: number): LiveResult | undefined {
  if (!(endsMs - Date.now() < SOON_MS)) return undefined;
  const message = `it serves, and its certificate expires soon (${new Date(endsMs).toISOString()})`;
  return warning(path, address, message, 'renew the certificate of the endpoint');
}

/** A problem where the name has no address. */
export async function unresolved(path: Path, host: string): Promise<LiveResult | undefined> {
  const looked = lookup(host).then(
    () => '',
    ({ code }: NodeJS.ErrnoException) => code ?? 'unknown error',
  );
  const code = await within(LOOK_MS, looked, 'EAI_AGAIN');
  if (code === '') return undefined;
  const message = `the name does not resolve (${code})`;
  const remedy =
    code === 'EAI_AGAIN'
      ? 'check the DNS service of this machine or pod'
      : 'correct the name, or run this where it is known, such as in the pod';
  return problem(path, host, message, remedy);
}
