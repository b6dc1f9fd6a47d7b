// Runs a process with its own /etc/hosts.
import { spawnSync } from 'node:child_process';

const script = 'mount --bind "$0" /etc/hosts && exec "$@"';

/** The command that starts a program with `file` as its /etc/hosts; the file may be changed in place at any time. */
export function withHosts(file: string): readonly string[] {
  return ['unshare', '--map-root-user', '--mount', 'sh', '-c', script, file];
}

/** Why this machine can't do that (it needs mount namespaces for users); false when it can. */
export function withoutHosts(): string | false {
  const { status, stderr, error } = spawnSync('unshare', ['-rm', 'sh', '-c', script, '/etc/hosts', 'true'], {
    encoding: 'utf8',
  });
  return status === 0 ? false : `no mount namespace: ${error?.message ?? stderr.trim()}`;
}
