// The targets that stand in front of the plain upstream, started once and used by every section that asks for them.
import { RawClient } from '../../scripts/harness/raw-grpc.ts';
import { largeAnswer, paths, smallAnswer } from '../traffic/answers.ts';
import { runTraffic } from '../traffic/run.ts';
import { taskMessage } from '../traffic/task-message.ts';
import { Cleanup } from './cleanup.ts';
import type { Target } from './setup.ts';
import { startTarget } from './targets.ts';
import { startWorld, type World } from './world.ts';

export class Fleet {
  readonly world: World;
  /** Something was started since the last section. */
  isNew = true;
  private readonly plainTargets = new Map<string, Target>();
  private readonly cleanup: Cleanup;

  private constructor(world: World, cleanup: Cleanup) {
    this.world = world;
    this.cleanup = cleanup;
  }

  static async start({ image = false } = {}): Promise<Fleet> {
    const cleanup = new Cleanup();
    try {
      return new Fleet(await startWorld(cleanup, image), cleanup);
    } catch (error) {
      await cleanup.run();
      throw error;
    }
  }

  /** The one that runs, or a new one. */
  async plain(name: string, warmUpSeconds: number): Promise<Target> {
    const known = this.plainTargets.get(name);
    if (known?.pids.every(isAlive)) return known;
    this.isNew = true;
    const target = await startTarget(name, this.world.setup);
    await proveItWorks(target);
    await warmUp(this.world, target, warmUpSeconds);
    this.plainTargets.set(name, target);
    return target;
  }

  async end(): Promise<void> {
    await this.cleanup.run();
  }
}

/** Code that has not been called often is not compiled yet, and memory has not found its size. */
export async function warmUp(world: World, target: Target, seconds: number): Promise<void> {
  const shape = { connections: 4, streams: 25 };
  await runTraffic(world.cleanup, target, { ...shape, seconds, warmUpSeconds: 0, ...target.traffic });
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** One real call with grpc-js first, byte for byte: what is not the right answer must not be measured. */
async function proveItWorks({ name, port }: Target): Promise<void> {
  const own = new Cleanup();
  try {
    const client = new RawClient(own, port);
    const request = taskMessage(100).subarray(5);
    for (const [path, answer] of [
      [paths.small, smallAnswer],
      [paths.large, largeAnswer],
    ] as const) {
      const outcome = await client.unary(request, { path, deadline: Date.now() + 10_000 });
      if (outcome.code !== 0 || outcome.response?.equals(answer.subarray(5)) !== true)
        throw new Error(`${name} answered ${path} with ${outcome.code} ${outcome.details}`);
    }
  } finally {
    await own.run();
  }
}
