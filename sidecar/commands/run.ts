/** `outrigger run`: runs the sidecar until it has drained. */
import { configure } from './configure.ts';

export async function run(args: readonly string[]): Promise<number | undefined> {
  const configured = await configure(args, true);
  if ('exitCode' in configured) return configured.exitCode;
  const { runSidecar } = await import('../process/start.ts');
  return runSidecar(configured.source);
}
