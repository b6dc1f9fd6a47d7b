// The places of nodes and edges in a topology, and the rates on them.
import t from 'tap';

interface Node {
  readonly id: string;
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}
interface Picture {
  readonly width: number;
  readonly height: number;
  readonly isNarrow: boolean;
  readonly nodes: readonly Node[];
  readonly edges: readonly { id: string; d: string; label: { x: number; y: number; anchor: string } }[];
}

// The pages' files are plain JavaScript, as browsers load them.
const load = (name: string) => import(new URL(`page/${name}`, import.meta.url).href);
const { layOut } = (await load('layout.js')) as { layOut: (graph: object, width: number) => Picture };
const { Rates } = await load('rates.js');

/** A gateway, rows of sidecar and agent, and one model for all. */
function system(rows: number) {
  const middle = (rows - 1) / 2;
  const nodes: object[] = [{ id: 'gateway', column: 0, row: middle, width: 150, height: 60 }];
  const edges: object[] = [];
  for (let row = 0; row < rows; row++) {
    nodes.push({ id: `s${row}`, column: 1, row, width: 196, height: 50 });
    nodes.push({ id: `a${row}`, column: 2, row, width: 232, height: 76 });
    edges.push(
      { id: `g${row}`, from: 'gateway', to: `s${row}` },
      { id: `e${row}`, from: `s${row}`, to: `a${row}` },
    );
    edges.push({ id: `m${row}`, from: `a${row}`, to: 'model' });
  }
  nodes.push({ id: 'model', column: 3, row: middle, width: 150, height: 60 });
  return { nodes, edges };
}

const overlap = (a: Node, b: Node) =>
  a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;

t.test('no node covers another one or leaves the picture, and no label lies on a node', async (t) => {
  for (const rows of [1, 2, 3, 4, 9]) {
    for (const width of [280, 390, 768, 1080, 1190, 1600]) {
      const picture = layOut(system(rows), width);
      const { nodes, edges, height } = picture;
      const problems: string[] = [];
      for (const [at, node] of nodes.entries()) {
        const inside =
          node.x >= 0 && node.y >= 0 && node.x + node.width <= width && node.y + node.height <= height;
        if (!inside) problems.push(`${node.id} leaves the picture`);
        for (const other of nodes.slice(at + 1))
          if (overlap(node, other)) problems.push(`${node.id} on ${other.id}`);
      }
      for (const { id, d, label } of edges) {
        if (!/^M[\d.]+ [\d.]+[HVC]/.test(d) || /NaN/.test(d)) problems.push(`${id}: ${d}`);
        const on = nodes.find(
          ({ x, y, width: w, height: h }) => label.x > x && label.x < x + w && label.y > y && label.y < y + h,
        );
        if (on !== undefined) problems.push(`the label of ${id} on ${on.id}`);
      }
      const places = new Set(edges.map(({ label }) => `${label.x} ${label.y}`));
      if (places.size !== edges.length) problems.push('two labels at one place');
      t.same(problems, [], `${rows} rows, ${width} wide`);
      t.equal(picture.isNarrow, width < 1000, `${width}`);
    }
  }
  t.match(layOut({ nodes: [], edges: [] }, 500), { nodes: [], height: 0 });
});

t.test('a fork and a meeting of edges begin and end at the middle of their nodes', async (t) => {
  const { nodes, edges } = layOut(system(2), 1190);
  const [gateway, model] = ['gateway', 'model'].map((id) => nodes.find((node) => node.id === id)!);
  const start = `M${gateway!.x + gateway!.width} ${gateway!.y + gateway!.height / 2}`;
  for (const id of ['g0', 'g1']) t.ok(edges.find((edge) => edge.id === id)!.d.startsWith(start));
  const end = `${model!.x} ${model!.y + model!.height / 2}`;
  for (const id of ['m0', 'm1']) t.ok(edges.find((edge) => edge.id === id)!.d.endsWith(end));
});

t.test('rates are those of the last ten seconds, and begin anew after a restart', async (t) => {
  const rates = new Rates();
  const add = (all: number, bad: number, second: number) => rates.add([['a', { all, bad }]], second * 1000);
  add(100, 50, 0);
  t.equal(rates.of('a'), null, 'one sample says nothing');
  add(105, 50, 1);
  t.equal(rates.of('a'), null, 'and neither does a second');
  add(110, 50, 5);
  t.same(rates.of('a'), { perS: 2, success: 1 });
  add(120, 55, 10);
  t.same(rates.of('a'), { perS: 2, success: 0.75 });
  add(120, 55, 30);
  add(120, 55, 32);
  t.same(rates.of('a'), { perS: 0, success: null });
  add(3, 0, 33);
  t.equal(rates.of('a'), null, 'a smaller counter is another process');
  rates.add([], 34_000);
  t.equal(rates.samples.size, 0, 'what is gone is forgotten');
});
