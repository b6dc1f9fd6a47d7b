// The MCP listener in this process.
import { TimerWheel } from '../../sidecar/clock/timer-wheel.ts';
import { WheelDriver } from '../../sidecar/clock/wheel-driver.ts';
import { toConfig } from '../../sidecar/config/config.ts';
import { validate } from '../../sidecar/config/validate.ts';
import { McpListener } from '../../sidecar/listeners/mcp.ts';
import type { OwnerCalls } from '../../sidecar/llm/shared/owner-call.ts';

export interface TestMcp {
  readonly listener: McpListener;
  /** The address of a server: `url('tools')`. */
  url(name: string): URL;
  close(): void;
}

/** @param mcp the `mcp` section as in the file */
export async function startMcp(
  mcp: object,
  {
    ownerCalls,
    onBreaker = () => {},
  }: { ownerCalls?: OwnerCalls; onBreaker?: (server: string, from: string, to: string) => void } = {},
): Promise<TestMcp> {
  const wheel = new TimerWheel();
  const clock = () => performance.now();
  const driver = new WheelDriver(wheel, clock);
  const validated = validate({ mcp: { listen: '127.0.0.1:0', ...mcp } });
  if ('findings' in validated) throw new Error(JSON.stringify(validated.findings));
  const listener = new McpListener(toConfig(validated.file).mcp, {
    wheel,
    clock,
    random: Math.random,
    events: { onMcpBreaker: onBreaker },
    ownerCalls,
  });
  const address = await listener.listen();
  return {
    listener,
    url: (name) => new URL(`http://${address}/mcp/${name}`),
    close: () => {
      listener.close();
      driver.stop();
    },
  };
}
