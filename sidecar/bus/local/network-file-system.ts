/** Tells file systems of a network, whose locks and shared memory don't hold between machines, from disks of this one. */
import { readFileSync, realpathSync } from 'node:fs';

const NETWORK = new Set([
  'nfs',
  'nfs4',
  'cifs',
  'smb3',
  'smbfs',
  '9p',
  'afs',
  'ceph',
  'coda',
  'gfs2',
  'glusterfs',
  'gpfs',
  'lustre',
  'ncpfs',
  'ocfs2',
  'beegfs',
  'orangefs',
  'fuse.sshfs',
  'fuse.glusterfs',
  'fuse.ceph',
  'fuse.ceph-fuse',
  'fuse.s3fs',
  'fuse.gcsfuse',
  'fuse.rclone',
  'fuse.blobfuse',
  'fuse.blobfuse2',
  'fuse.mount-s3',
  'fuse.juicefs',
  'fuse.moosefs',
  'fuse.mfs',
  'fuse.davfs2',
]);

/** The kind of a network file system that a folder is on; undefined for others, and where the system doesn't tell. */
export function networkFileSystem(folder: string, mounts: string = readMounts()): string | undefined {
  let type: string | undefined;
  let longest = -1;
  const path = `${realpathSync(folder)}/`;
  for (const line of mounts.split('\n')) {
    const [, point, kind] = line.split(' ');
    if (point === undefined || kind === undefined) continue;
    const mounted = unescaped(point);
    const prefix = mounted.endsWith('/') ? mounted : `${mounted}/`;
    // Of two mounts at one point the later one lies on top.
    if (!path.startsWith(prefix) || prefix.length < longest) continue;
    longest = prefix.length;
    type = kind;
  }
  return type !== undefined && NETWORK.has(type) ? type : undefined;
}

function readMounts(): string {
  try {
    return readFileSync('/proc/self/mounts', 'utf8');
  } catch {
    return '';
  }
}

/** `/proc/self/mounts` writes blanks and their like as `\040`. */
function unescaped(point: string): string {
  return point.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}
