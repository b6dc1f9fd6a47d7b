// The paths of installed files. All of them are inside the checkout and ignored by git.
import { existsSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
export const modules = join(root, 'node_modules');
export const cache = join(root, '.cache');
export const toolsDir = join(cache, 'tools');
export const confineFolder = join(root, 'agents', 'tools', 'confine');
export const goModule = join(root, 'scripts', 'tools', 'go');
export const goKubernetesModule = join(root, 'scripts', 'tools', 'go-kubernetes');
export const goHelmModule = join(root, 'scripts', 'tools', 'go-helm');
export const goGrpcurlModule = join(root, 'scripts', 'tools', 'go-grpcurl');
export const goConformanceModule = join(root, 'scripts', 'tools', 'go-conformance');

/** The search path of the host, without this checkout's node_modules (npm puts it in front). */
export const hostPath = (process.env.PATH ?? '')
  .split(delimiter)
  .filter((dir) => dir !== '' && !dir.includes(`node_modules${'/'}.bin`))
  .join(delimiter);

/** The full path of a program, or undefined. Debian keeps servers in sbin, which users often lack. */
export function which(program) {
  for (const dir of [...hostPath.split(delimiter), '/usr/local/go/bin', '/usr/sbin', '/sbin']) {
    const path = join(dir, program);
    if (existsSync(path)) return path;
  }
  return undefined;
}
