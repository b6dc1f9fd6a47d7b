/** The one endpoint of a cluster whose calls become tasks: it is inside this process. */
import type { Discovery } from './discovery.ts';

export class BusDiscovery implements Discovery {
  private readonly address: string;

  constructor(agentType: string) {
    this.address = `bus:${agentType}`;
  }

  start(onEndpoints: (addresses: readonly string[]) => void): void {
    onEndpoints([this.address]);
  }

  stop(): void {}

  refresh(): void {}
}
