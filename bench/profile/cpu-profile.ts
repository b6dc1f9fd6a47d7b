// V8's .cpuprofile, read into a tree of functions with the time that was spent in each.

interface ProfileNode {
  readonly id: number;
  readonly callFrame: { functionName: string; url: string; lineNumber: number };
  readonly children?: readonly number[];
}

export interface CpuProfile {
  readonly nodes: readonly ProfileNode[];
  /** The node that was running at each sample. */
  readonly samples: readonly number[];
  /** Microseconds before each sample. */
  readonly timeDeltas: readonly number[];
}

export interface Frame {
  readonly name: string;
  /** `http2/writer.ts:90`; empty for what is V8's own. */
  readonly place: string;
  /** Microseconds in the function itself. */
  selfUs: number;
  /** And in what it called. */
  totalUs: number;
  readonly children: Frame[];
}

/** Not the work of anybody: waiting in epoll. */
const IDLE = '(idle)';

/** The tree from its root, without idle time, the most expensive children first. Lines are those of the source. */
export function readProfile({ nodes, samples, timeDeltas }: CpuProfile): Frame {
  const selfUs = new Map<number, number>();
  for (const [i, id] of samples.entries())
    selfUs.set(id, (selfUs.get(id) ?? 0) + Math.max(0, timeDeltas[i] ?? 0));
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const build = (node: ProfileNode): Frame => {
    const { functionName, url, lineNumber } = node.callFrame;
    const children = (node.children ?? [])
      .map((id) => byId.get(id)!)
      .filter((child) => child.callFrame.functionName !== IDLE)
      .map(build)
      .filter(({ totalUs }) => totalUs > 0)
      .sort((a, b) => b.totalUs - a.totalUs);
    const self = selfUs.get(node.id) ?? 0;
    return {
      name: functionName === '' ? '(anonymous)' : functionName,
      place: url === '' ? '' : `${shortUrl(url)}:${lineNumber + 1}`,
      selfUs: self,
      totalUs: self + children.reduce((sum, child) => sum + child.totalUs, 0),
      children,
    };
  };
  return build(nodes[0]!);
}

/** Functions by the time spent in themselves, wherever they were called from. */
export function hottest(root: Frame): { name: string; place: string; share: number }[] {
  const sums = new Map<string, { name: string; place: string; share: number }>();
  const visit = (frame: Frame): void => {
    const key = `${frame.name} ${frame.place}`;
    const sum = sums.get(key) ?? { name: frame.name, place: frame.place, share: 0 };
    sum.share += frame.selfUs / root.totalUs;
    sums.set(key, sum);
    for (const child of frame.children) visit(child);
  };
  visit(root);
  return [...sums.values()].sort((a, b) => b.share - a.share);
}

function shortUrl(url: string): string {
  const path = url.replace(/^file:\/\//, '');
  const at = path.lastIndexOf('/sidecar/');
  return at >= 0 ? path.slice(at + '/sidecar/'.length) : path.replace(/^.*\/node_modules\//, '');
}
