// A process that reads another /etc/hosts than the rest of the machine.
import { spawnSync } from 'node:child_process';

const script = 'mount --bind "$0" /etc/hosts && exec "$@"';

/** What starts a program so that `file` is its /etc/hosts; the file may be changed in place at any time. */
export function withHosts(file: string): readonly string[] {
  return ['unshare', '--map-root-user', '--mount', 'sh', '-c', script, file];
}

/** Why that can't be done on this machine, which must let users have mount namespaces; false when it can. */
export function withoutHosts(): string | false {
  const { status, stderr, error } = spawnSync('unshare', ['-rm', 'sh', '-c', script, '/etc/hosts', 'true'], {
    encoding: 'utf8',
  });
  return status === 0 ? false : `no mount namespace: ${error?.message ?? stderr.trim()}`;
}
