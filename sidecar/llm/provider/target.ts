/** One place of a request's chain: an upstream, and the model that the request has there. */
import { traitsOf } from '../kinds/operations.ts';
import type { RequestFacts } from '../request/request-facts.ts';
import type { Upstream } from './upstream.ts';

export class Target {
  readonly upstream: Upstream;
  /** The model of the chain; undefined goes by the upstream's own, and by the request. */
  readonly model: string | undefined;

  constructor(upstream: Upstream, model?: string) {
    this.upstream = upstream;
    this.model = model;
  }

  /** Distinguishes the places of all chains. */
  get id(): string {
    return this.model === undefined ? this.upstream.name : `${this.upstream.name}/${this.model}`;
  }

  /** Returns the model for this place; the upstream's configured one replaces only models that generate text. */
  modelFor({ operation, model, understood, isModelInPath }: RequestFacts): string {
    if (!understood && !isModelInPath) return model;
    return (
      this.model ?? (traitsOf(operation).generatesText ? this.upstream.settings.model : undefined) ?? model
    );
  }
}
