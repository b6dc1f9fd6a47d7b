/** `outrigger check`: prints the configuration that `run` would use, or every problem with it. */
import { EXIT, print } from './command.ts';
import { configure } from './configure.ts';

export async function check(args: readonly string[]): Promise<number> {
  const configured = await configure(args);
  if ('exitCode' in configured) return configured.exitCode;
  const { stringify } = await import('yaml');
  print(stringify(configured.source.effective));
  return EXIT.OK;
}
