// Places the nodes and edges of a topology. Pure: it knows widths and heights, and no page.
//
//     wide:    columns from left to right, edges between them, their labels on the level part of the line
//     narrow:  all nodes below each other; edges run along the left side, and along the right one where several meet

const ROW_GAP = 14;
/** A narrower gap has no room for the label of an edge. */
const MIN_COLUMN_GAP = 112;
const STACK_GAP = 27;
const INDENT = 20;
const MARGIN = 18;

/**
 * @param {object} graph nodes [{ id, column, row, width, height }]: rows count from 0 and may be fractions; edges
 *   [{ id, from, to }]
 * @param {number} width the room for the picture
 * @returns the same nodes with x and y, the edges with a path, a place for their label and one for their mark
 */
export function layOut(graph, width) {
  if (graph.nodes.length === 0) return { width, height: 0, isNarrow: false, nodes: [], edges: [] };
  const columns = columnsOf(graph.nodes);
  const needed = columns.reduce((sum, column) => sum + column.width, 0);
  const gap = (width - needed) / Math.max(columns.length - 1, 1);
  return gap >= MIN_COLUMN_GAP ? beside(graph, columns, gap, width) : below(graph, width);
}

function columnsOf(nodes) {
  const columns = [];
  for (const { column, width } of nodes) {
    columns[column] ??= { width: 0 };
    columns[column].width = Math.max(columns[column].width, width);
  }
  return columns.filter(Boolean).map((column, index) => ({ ...column, index }));
}

function beside({ nodes, edges }, columns, gap, width) {
  const rowHeight = Math.max(...nodes.map(({ height }) => height)) + ROW_GAP;
  const numbers = [...new Set(nodes.map(({ column }) => column))].sort((a, b) => a - b);
  const left = new Map();
  let x = 0;
  columns.forEach((column, at) => {
    left.set(numbers[at], x);
    x += column.width + gap;
  });
  const placed = nodes.map((node) => ({
    ...node,
    x: left.get(node.column),
    y: (node.row + 0.5) * rowHeight - node.height / 2,
  }));
  const byId = new Map(placed.map((node) => [node.id, node]));
  const rows = Math.max(...nodes.map(({ row }) => row)) + 1;
  return {
    width,
    height: rows * rowHeight,
    isNarrow: false,
    nodes: placed,
    edges: edges.map((edge) => across(edge, byId.get(edge.from), byId.get(edge.to), edges)),
  };
}

/** An edge to the right, or down within a column: level beside the node that has it alone, so that its label has a level line. */
function across(edge, from, to, edges) {
  if (from.column === to.column) {
    const [x, y1, y2] = [from.x + Math.min(from.width, to.width) / 2, from.y + from.height, to.y];
    const label = { x: x + 8, y: (y1 + y2) / 2 - 5, anchor: 'start' };
    return { ...edge, d: `M${x} ${y1}V${y2}`, label };
  }
  const [x1, y1] = [from.x + from.width, from.y + from.height / 2];
  const [x2, y2] = [to.x, to.y + to.height / 2];
  const room = x2 - x1;
  const meets = edges.filter((other) => other.to === edge.to).length > 1;
  const bend = room * 0.34;
  if (Math.abs(y1 - y2) < 1) {
    // Where others bend, the label keeps in line with theirs.
    const forks = edges.filter((other) => other.from === edge.from).length > 1;
    const shift = meets ? -bend / 2 : forks ? bend / 2 : 0;
    const label = { x: (x1 + x2) / 2 + shift, y: y1, anchor: 'middle' };
    return { ...edge, d: `M${x1} ${y1}H${x2}`, label };
  }
  if (meets) {
    const at = x2 - bend;
    const d = `M${x1} ${y1}H${at}C${at + bend / 2} ${y1} ${x2 - bend / 2} ${y2} ${x2} ${y2}`;
    return { ...edge, d, label: { x: (x1 + at) / 2, y: y1, anchor: 'middle' } };
  }
  const at = x1 + bend;
  const d = `M${x1} ${y1}C${x1 + bend / 2} ${y1} ${at - bend / 2} ${y2} ${at} ${y2}H${x2}`;
  return { ...edge, d, label: { x: (at + x2) / 2, y: y2, anchor: 'middle' } };
}

function below({ nodes, edges }, width) {
  const into = (id) => edges.filter(({ to }) => to === id);
  const outOf = (id) => edges.filter(({ from }) => from === id);
  const meeting = edges.some(({ to }) => into(to).length > 1);
  const right = meeting ? MARGIN : 0;
  const byId = new Map();
  let y = 0;
  for (const node of nodes) {
    const [edge, another] = into(node.id);
    const parent = another === undefined ? byId.get(edge?.from) : undefined;
    const forks = parent !== undefined && outOf(parent.id).length > 1;
    const depth = parent === undefined ? 0 : parent.depth + (forks ? 1 : 0);
    const x = depth * INDENT;
    if (byId.size > 0) y += STACK_GAP;
    byId.set(node.id, { ...node, depth, x, y, width: Math.max(width - x - right, 1) });
    y += node.height;
  }
  const placed = edges.map((edge) => {
    const [from, to] = [byId.get(edge.from), byId.get(edge.to)];
    return into(to.id).length > 1 ? alongTheRight(edge, from, to, width) : alongTheLeft(edge, from, to);
  });
  return { width, height: y, isNarrow: true, nodes: [...byId.values()], edges: placed };
}

function alongTheLeft(edge, from, to) {
  const label = { x: to.x + MARGIN + 6, y: to.y - STACK_GAP / 2, anchor: 'start' };
  if (from.depth === to.depth) {
    const x = to.x + MARGIN / 2;
    return { ...edge, d: `M${x} ${from.y + from.height}V${to.y}`, label };
  }
  const x = to.x - INDENT / 2;
  return { ...edge, d: `M${x} ${from.y + from.height}V${to.y + to.height / 2}H${to.x}`, label };
}

function alongTheRight(edge, from, to, width) {
  const x = width - MARGIN / 2;
  const y = from.y + from.height / 2;
  return {
    ...edge,
    d: `M${from.x + from.width} ${y}H${x}V${to.y}`,
    label: { x: from.x + from.width, y: from.y + from.height + STACK_GAP / 2, anchor: 'end' },
  };
}
