/**
 * What all running calls of a listener may keep, in bytes, of requests that an endpoint has: to send them again where it did not
 * begin with them. 256 prompts of 64 KiB.
 */
export const KEPT_REQUESTS_MAX_BYTES = 16_777_216;

/**
 * The memory of running calls for their own requests. A call that finds no room sends its request once: the memory of many
 * large requests is worth more than a resend that hardly any of them needs.
 */
export class KeptRequests {
  readonly maxBytes: number;
  bytes = 0;

  constructor(maxBytes = KEPT_REQUESTS_MAX_BYTES) {
    this.maxBytes = maxBytes;
  }

  /** @returns false without room: then nothing was taken */
  take(bytes: number): boolean {
    if (this.bytes + bytes > this.maxBytes) return false;
    this.bytes += bytes;
    return true;
  }

  give(bytes: number): void {
    this.bytes -= bytes;
  }
}
