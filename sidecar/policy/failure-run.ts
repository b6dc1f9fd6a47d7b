/**
 * Counts failures in a row, and whether they are the cluster's or those of one endpoint.
 *
 * Many calls are in flight at a time. When one of two endpoints falls silent, its calls time out between the other's
 * answers, and by chance alone five time-outs soon arrive in a row. The outlier detector handles that endpoint; the
 * circuit covers the cluster. So a run counts when it comes from two endpoints, or when there is only one.
 */
export class FailureRun {
  private failures = 0;
  private endpoint: unknown = undefined;
  private fromSeveral = false;

  get count(): number {
    return this.failures;
  }

  /** @param endpoint that failed; undefined when several failed the call, or when it is unknown */
  add(endpoint: unknown): void {
    if (this.failures++ === 0) {
      this.endpoint = endpoint;
      this.fromSeveral = endpoint === undefined;
    } else if (endpoint !== this.endpoint) {
      this.fromSeveral = true;
    }
  }

  /** @param limit of failures; 0 turns the rule off. @param endpoints number of usable endpoints */
  reaches(limit: number, endpoints: number): boolean {
    return limit > 0 && this.failures >= limit && (this.fromSeveral || endpoints <= 1);
  }

  reset(): void {
    this.failures = 0;
    this.endpoint = undefined;
  }
}
