// `docker build $(node scripts/image-labels.mjs) -t outrigger:VERSION .`: the build arguments of the images' labels, from
// git. The time is the commit's, so that one commit makes one image. Outside of a checkout it prints none.
import { spawnSync } from 'node:child_process';
import { root } from './tools/paths.mjs';

const git = (...args) => {
  const { status, stdout } = spawnSync('git', args, { cwd: root, encoding: 'utf8' });
  return status === 0 ? stdout.trim() : '';
};

/** The remote's address as a link to read: without user, password and `.git`. */
function source() {
  const remote = git('config', '--get', 'remote.origin.url');
  const [, host, path] =
    /^(?:(?:https?|ssh):\/\/)?(?:[^@/]*@)?([\w.-]+)(?::\d+)?[:/](.+?)(?:\.git)?$/.exec(remote) ?? [];
  return host === undefined || remote.startsWith('/') || remote.startsWith('file:')
    ? ''
    : `https://${host}/${path}`;
}

const revision = git('rev-parse', 'HEAD');
const changed = git('status', '--porcelain', '--untracked-files=no') !== '';
const values = {
  REVISION: revision === '' ? '' : `${revision}${changed ? '-changed' : ''}`,
  CREATED: git('show', '--no-patch', '--format=%cI', 'HEAD'),
  SOURCE: source(),
};
const given = Object.entries(values).filter(([, value]) => value !== '');
console.log(given.map(([name, value]) => `--build-arg ${name}=${value}`).join(' '));
