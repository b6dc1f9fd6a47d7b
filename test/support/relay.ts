// The sidecar's two listeners in the test's own process, for tests that look at their insides.
import type { Test } from 'tap';
import { toConfig } from '../../sidecar/config/config.ts';
import { validate } from '../../sidecar/config/validate.ts';
import { Sidecar } from '../../sidecar/data-plane/sidecar.ts';
import type { ConnectionError } from '../../sidecar/http2/errors.ts';

export interface Relay {
  readonly sidecar: Sidecar;
  readonly inboundPort: number;
  readonly outboundPort: number;
  /** Connections that ended for another reason than their peer's wish. */
  readonly connectionErrors: ConnectionError[];
}

const anyPort = '127.0.0.1:0';

/** Starts both listeners on ports of the kernel's choice with this configuration (its file form). */
export async function startRelay(
  t: Pick<Test, 'teardown'>,
  config: Record<string, unknown> = {},
): Promise<Relay> {
  const sections = { inbound: {}, outbound: {}, ...config };
  const validated = validate({
    ...sections,
    inbound: { listen: anyPort, ...sections.inbound },
    outbound: { listen: anyPort, ...sections.outbound },
    llm: { listen: anyPort },
  });
  if ('findings' in validated) throw new Error(JSON.stringify(validated.findings));
  const connectionErrors: ConnectionError[] = [];
  const sidecar = new Sidecar(toConfig(validated.file), {
    onConnectionError: (_, error) => connectionErrors.push(error),
    onDrainState() {},
    onOutlier() {},
    onCircuit() {},
    onBreaker() {},
    onCooldown() {},
    onOutOfCredit() {},
    onEndpoints() {},
    onDiscoveryError() {},
    onConnectFailed() {},
    onEndpointUsable() {},
  });
  await sidecar.start();
  t.teardown(() => {
    sidecar.inbound.listener.endCalls();
    sidecar.outbound.listener.endCalls();
    sidecar.close();
  });
  const portOf = (address: string): number => Number(address.slice(address.lastIndexOf(':') + 1));
  return {
    sidecar,
    inboundPort: portOf(sidecar.inboundAddress),
    outboundPort: portOf(sidecar.outboundAddress),
    connectionErrors,
  };
}
