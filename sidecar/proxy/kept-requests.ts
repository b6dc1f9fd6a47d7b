/**
 * The bytes that all running calls of a listener may keep of requests that an endpoint has received, to send them again
 * if it did not process them. 256 prompts of 64 KiB.
 */
export const KEPT_REQUESTS_MAX_BYTES = 16_777_216;

/**
 * Bounds the memory in which running calls keep their own requests. A call that finds no room sends its request once:
 * the memory of many large requests is worth more than a resend, which hardly any of them needs.
 */
export class KeptRequests {
  readonly maxBytes: number;
  bytes = 0;

  constructor(maxBytes = KEPT_REQUESTS_MAX_BYTES) {
    this.maxBytes = maxBytes;
  }

  /** @returns false, and takes nothing, when there is no room */
  take(bytes: number): boolean {
    if (this.bytes + bytes > this.maxBytes) return false;
    this.bytes += bytes;
    return true;
  }

  give(bytes: number): void {
    this.bytes -= bytes;
  }
}
