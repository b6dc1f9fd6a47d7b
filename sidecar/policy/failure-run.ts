/**
 * Failures in a row, and whether they speak for the cluster or for one endpoint.
 *
 * Many calls are in flight at a time. When one of two endpoints falls silent, its calls time out between the other's
 * answers, and by chance alone five time-outs soon come in a row. That endpoint is the outlier detector's business;
 * the circuit is the cluster's. So a run counts when it comes from two endpoints, or when there is only one.
 */
export class FailureRun {
  #count = 0;
  #endpoint: unknown = undefined;
  #fromSeveral = false;

  get count(): number {
    return this.#count;
  }

  /** @param endpoint whose failure it was; undefined when several have failed the call, or when it is not known */
  add(endpoint: unknown): void {
    if (this.#count++ === 0) {
      this.#endpoint = endpoint;
      this.#fromSeveral = endpoint === undefined;
    } else if (endpoint !== this.#endpoint) {
      this.#fromSeveral = true;
    }
  }

  /** @param limit of failures; 0 is off. @param endpoints that can be used now */
  reaches(limit: number, endpoints: number): boolean {
    return limit > 0 && this.#count >= limit && (this.#fromSeveral || endpoints <= 1);
  }

  reset(): void {
    this.#count = 0;
    this.#endpoint = undefined;
  }
}
