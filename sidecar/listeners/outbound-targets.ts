/** The listeners of `outbound.targets`: a local port for each address that the app calls. */
import type { GrpcListener, Move } from './grpc-listener.ts';
import type { GrpcListenerOptions } from './grpc-listener-options.ts';
import type { OutboundTarget } from './listener-settings.ts';
import type { TargetListener } from './target-listener.ts';

export class OutboundTargets {
  private readonly create: (target: OutboundTarget) => TargetListener;
  /** By the address of the configuration. */
  private readonly serving = new Map<string, TargetListener>();
  /** A reload removed these; their calls finish. */
  private leaving: GrpcListener[] = [];

  constructor(create: (target: OutboundTarget) => TargetListener) {
    this.create = create;
  }

  /** Throws ListenError; then the caller closes what has opened. */
  async start(targets: readonly OutboundTarget[]): Promise<void> {
    for (const target of targets) {
      const made = this.create(target);
      await made.listen(target.listen);
      this.serving.set(target.listen, made);
    }
  }

  /** The first address of a configuration that is not open yet. */
  firstNew(targets: readonly OutboundTarget[]): string | undefined {
    return targets.find(({ listen }) => !this.serving.has(listen))?.listen;
  }

  /** Opens the new addresses of a configuration. The moves commit them and close the old ones. Throws ListenError. */
  async open(targets: readonly OutboundTarget[], opened: Move[]): Promise<void> {
    const wanted = new Set(targets.map(({ listen }) => listen));
    for (const target of targets) {
      if (this.serving.has(target.listen)) continue;
      const made = this.create(target);
      const address = await made.listen(target.listen);
      const commit = () => void this.serving.set(target.listen, made);
      opened.push({ address, commit, cancel: () => made.stopAccepting() });
    }
    const removed = [...this.serving.keys()].filter((listen) => !wanted.has(listen));
    for (const listen of removed)
      opened.push({ address: '', commit: () => this.remove(listen), cancel() {} });
  }

  private remove(listen: string): void {
    const listener = this.serving.get(listen)!;
    this.serving.delete(listen);
    listener.stopAccepting();
    listener.drain();
    this.leaving = [...this.leaving.filter(({ connectionCount }) => connectionCount > 0), listener];
  }

  /** Gives the ports that stay their targets, and new connections their options. */
  apply(targets: readonly OutboundTarget[], options: GrpcListenerOptions): void {
    for (const { listen, address } of targets) {
      const served = this.serving.get(listen);
      served?.direction.redirect(address);
      served?.update(options);
    }
  }

  /** Every listener with calls, also those that a reload removed. */
  get listeners(): readonly GrpcListener[] {
    return [...this.serving.values(), ...this.leaving];
  }

  /** The first port that accepts no more connections; undefined when all do. */
  get deaf(): string | undefined {
    for (const [listen, { isListening }] of this.serving) if (!isListening) return listen;
    return undefined;
  }
}
