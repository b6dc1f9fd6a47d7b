/** How many bytes results and chunks take: asked of the server now and then, and counted by ourselves in between. */
import type { BusConnection } from './connection.ts';
import { CHUNKS, KEYS, RESULTS } from './names.ts';

const FRESH_MS = { farFromFull: 5_000, nearlyFull: 100 };
const NEARLY = 0.8;

export class StoreSize {
  private readonly connection: BusConnection;
  private readonly maxBytes: number;
  private bytes = 0;
  /** By this log, ever. */
  private added = 0;
  private sampledMs = Number.NEGATIVE_INFINITY;
  private sampling: Promise<void> | undefined;

  constructor(connection: BusConnection, maxBytes: number) {
    this.connection = connection;
    this.maxBytes = maxBytes;
  }

  /** This log has stored so much more. */
  add(bytes: number): void {
    this.bytes += bytes;
    this.added += bytes;
  }

  async isFull(): Promise<boolean> {
    const isNear = this.bytes >= this.maxBytes * NEARLY;
    const ageMs = performance.now() - this.sampledMs;
    if (ageMs > (isNear ? FRESH_MS.nearlyFull : FRESH_MS.farFromFull)) {
      this.sampling ??= this.sample().finally(() => {
        this.sampling = undefined;
      });
      // Far from the limit nobody waits for it, but for the first.
      if (isNear || this.sampledMs === Number.NEGATIVE_INFINITY) await this.sampling;
      else this.sampling.catch(() => {});
    }
    return this.bytes >= this.maxBytes;
  }

  private async sample(): Promise<void> {
    const addedBefore = this.added;
    const sizes = await Promise.all(
      [KEYS, CHUNKS, RESULTS].map((stream) =>
        this.connection.manage(async (jsm) => (await jsm.streams.info(stream)).state.bytes),
      ),
    );
    // Tasks stored meanwhile may be counted or not; counting too much is the safe side.
    this.bytes = sizes.reduce((sum, bytes) => sum + bytes, this.added - addedBefore);
    this.sampledMs = performance.now();
  }
}
