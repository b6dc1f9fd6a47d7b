/** The gRPC server of the scaler, on the listener of the sidecars: bounded, in plain text or with TLS. */
import { TimerWheel } from '../../clock/timer-wheel.ts';
import { WheelDriver } from '../../clock/wheel-driver.ts';
import type { ConnectionError } from '../../http2/errors.ts';
import { DEFAULT_LIMITS, headerLimits } from '../../http2/limits.ts';
import { type CallAcceptor, GrpcListener } from '../../listeners/grpc-listener.ts';
import { ListenerStats } from '../../telemetry/call-stats.ts';
import type { CredentialsListener } from '../../tls/credentials.ts';

export interface ScalerServerOptions {
  readonly listen: string;
  /** Undefined for plain text. With `clientCa`, clients need a certificate of one of its authorities. */
  readonly tls: ScalerTls | undefined;
  readonly calls: CallAcceptor;
  readonly certificates: CredentialsListener;
  readonly onConnectionError: (error: ConnectionError) => void;
}

/** Paths of PEM files. */
export interface ScalerTls {
  readonly cert: string;
  readonly key: string;
  readonly clientCa: string | undefined;
}

/** KEDA opens one connection for all its calls. */
const MAX_CONNECTIONS = 128;
const MAX_HEADER_BYTES = 16_384;

export class ScalerServer {
  private readonly options: ScalerServerOptions;
  private readonly listener: GrpcListener;
  private readonly driver: WheelDriver;

  constructor(options: ScalerServerOptions) {
    this.options = options;
    const wheel = new TimerWheel();
    this.driver = new WheelDriver(wheel);
    const environment = {
      wheel,
      clock: () => performance.now(),
      random: Math.random,
      instance: '',
      onConnectionError: (_listener: string, error: ConnectionError) => options.onConnectionError(error),
      certificates: options.certificates,
    };
    this.listener = new GrpcListener('scaler', options.calls, new ListenerStats('scaler'), environment, {
      limits: { ...DEFAULT_LIMITS, ...headerLimits(MAX_HEADER_BYTES) },
      maxConnections: MAX_CONNECTIONS,
      sharesConnections: true,
      // A stream whose peer has vanished would be kept for good.
      keepalive: { timeMs: 30_000, timeoutMs: 10_000 },
      minPingIntervalMs: 10_000,
      maxConnectionAgeMs: 0,
    });
  }

  /** Throws ListenError. */
  async listen(): Promise<void> {
    const { listen, tls } = this.options;
    if (tls !== undefined) this.listener.secure({ ...tls, allowIdentities: [], required: true });
    await this.listener.listen(listen);
  }

  get address(): string {
    return this.listener.address;
  }

  get isListening(): boolean {
    return this.listener.isListening;
  }

  /** Accepts no more; calls in flight finish until {@link close}. */
  drain(): void {
    this.listener.stopAccepting();
    this.listener.drain();
  }

  get connectionCount(): number {
    return this.listener.connectionCount;
  }

  close(): void {
    this.listener.endCalls();
    this.driver.stop();
  }
}
