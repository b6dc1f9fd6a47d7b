// Draws a topology: nodes with their state, and edges with rate, success and p95. Edges are SVG below the nodes; nodes are
// elements of the page, so that their links and buttons work by keyboard.
import { element, setClass, setText, svg, sync } from './elements.js';
import { layOut } from './layout.js';
import { latency, percent, rate } from './numbers.js';

/** The height and width of nodes are for this size of letters. */
const USUAL_LETTERS_PX = 15;
/** Marks tell the tones apart without colour. */
const MARKS = { bad: '✕', slow: '!' };

export class Topology {
  /** @param act(id, action) runs the action of a node's button */
  constructor(box, { act = () => {} } = {}) {
    this.box = box;
    this.act = act;
    this.lines = svg('svg', { class: 'edges', 'aria-hidden': 'true' });
    this.list = element('ul', 'nodes');
    box.classList.add('topology');
    box.append(this.lines, this.list);
    this.graph = { nodes: [], edges: [] };
    new ResizeObserver(() => this.draw()).observe(box);
  }

  /**
   * @param graph nodes [{ id, column, row, width, height, kind, title, href, detail, state, tone, actions }], in the order
   *   of the keyboard; edges [{ id, from, to, tone, perS, success, p95, note }]
   */
  show(graph) {
    this.graph = graph;
    this.draw();
  }

  draw() {
    const letters = Number.parseFloat(getComputedStyle(document.documentElement).fontSize);
    const scale = letters / USUAL_LETTERS_PX || 1;
    const nodes = this.graph.nodes.map((node) => ({
      ...node,
      width: node.width * scale,
      height: node.height * scale,
    }));
    const picture = layOut({ ...this.graph, nodes }, this.box.clientWidth);
    this.box.classList.toggle('narrow', picture.isNarrow);
    this.box.style.setProperty('height', `${Math.ceil(picture.height)}px`);
    this.lines.setAttribute('width', String(picture.width));
    this.lines.setAttribute('height', String(Math.ceil(picture.height)));
    this.drawNodes(picture);
    sync(
      this.lines,
      picture.edges,
      ({ id }) => id,
      createEdge,
      (item, edge) => updateEdge(item, edge, picture),
    );
  }

  drawNodes({ nodes, edges }) {
    const titles = new Map(nodes.map(({ id, title }) => [id, title]));
    sync(
      this.list,
      nodes,
      ({ id }) => id,
      (node) => this.createNode(node),
      (item, node) => {
        const into = edges.filter(({ to }) => to === node.id);
        updateNode(
          item,
          node,
          into.map((edge) => `From ${titles.get(edge.from)}: ${describe(edge)}.`).join(' '),
        );
      },
    );
  }

  createNode({ id, kind, title, label = '', href = '', actions = [] }) {
    const name = href === '' ? element('span', 'title', title) : element('a', 'title', title);
    if (href !== '') name.href = href;
    if (label !== '') name.setAttribute('aria-label', label);
    const state = element('span', 'node-state');
    const detail = element('span', 'address');
    const note = element('span', 'note');
    const edges = element('span', 'hidden');
    const parts = [element('span', 'node-head', name, state), detail, note, edges];
    const buttons = new Map();
    if (actions.length > 0) {
      const row = element('span', 'node-buttons');
      for (const { action, label } of actions) {
        const button = element('button', action === 'restore' ? 'main' : '', label);
        button.type = 'button';
        button.setAttribute('aria-label', `${label} ${title}`);
        button.addEventListener('click', () => {
          if (button.getAttribute('aria-disabled') !== 'true') this.act(id, action);
        });
        row.append(button);
        buttons.set(action, button);
      }
      parts.push(row);
    }
    const item = element('li', `node ${kind}`, ...parts);
    item.dataset.node = id;
    item.parts = { name, state, detail, note, edges, buttons };
    return item;
  }
}

function updateNode(item, node, edgesText) {
  const {
    x,
    y,
    width,
    height,
    kind,
    tone,
    state,
    detail = '',
    note = '',
    why = '',
    href = '',
    title,
    actions = [],
  } = node;
  const { parts } = item;
  setClass(item, `node ${kind} ${tone}`);
  for (const [name, value] of Object.entries({ left: x, top: y, width, height })) {
    const px = `${Math.round(value)}px`;
    if (item.style.getPropertyValue(name) !== px) item.style.setProperty(name, px);
  }
  setText(parts.name, title);
  if (href !== '' && parts.name.href !== undefined && parts.name.href !== href) parts.name.href = href;
  setText(parts.state, state);
  setText(parts.detail, detail);
  setText(parts.note, note);
  parts.note.hidden = note === '';
  // A reader without a mouse finds the reason in the list of events, too.
  item.title = [title, detail, state, why].filter(Boolean).join(' · ');
  setText(parts.edges, edgesText);
  // Not the attribute `disabled`: the button would lose the focus while the state changes.
  for (const { action, disabled } of actions)
    parts.buttons.get(action)?.setAttribute('aria-disabled', String(disabled));
}

function describe({ perS, success, p95, note = '' }) {
  if (note !== '') return note;
  if (perS === null || perS === undefined) return 'nothing is known yet';
  if (perS < 0.05) return 'no calls';
  const answers = p95 === null || p95 === undefined ? '' : `, p95 ${latency(p95)}`;
  return `${rate(perS)} calls a second, ${success === null ? 'none ended in success or failure' : `${percent(success)} succeed`}${answers}`;
}

/** What is written above and below a line. */
function labelOf({ perS, success, p95, note = '' }) {
  if (note !== '') return [note, ''];
  if (perS === null || perS === undefined) return ['', ''];
  if (perS < 0.05) return ['no calls', ''];
  const ends = success === null ? '' : percent(success);
  const time = p95 === null || p95 === undefined ? '' : `p95 ${latency(p95)}`;
  return [[`${rate(perS)}/s`, ends].filter(Boolean).join(' · '), time];
}

function createEdge({ id }) {
  const parts = {
    line: svg('path', { class: 'line' }),
    above: svg('text', { class: 'label' }),
    below: svg('text', { class: 'label' }),
    disc: svg('circle', { r: 8, class: 'mark-disc' }),
    mark: svg('text', { class: 'mark' }),
  };
  const group = svg('g', {});
  group.dataset.edge = id;
  group.append(parts.line, parts.above, parts.below, parts.disc, parts.mark);
  group.parts = parts;
  return group;
}

function set(node, attributes) {
  for (const [key, value] of Object.entries(attributes))
    if (node.getAttribute(key) !== String(value)) node.setAttribute(key, String(value));
}

function updateEdge({ parts }, edge, picture) {
  const { d, label, tone } = edge;
  const group = parts.line.parentNode;
  set(group, { class: `edge ${tone}` });
  set(parts.line, { d });
  const [first, second] = labelOf(edge);
  const mark = MARKS[tone] ?? '';
  const narrow = picture.isNarrow;
  // Above and below a level line; in one line where the picture is narrow.
  const text = narrow
    ? [[[mark, first].filter(Boolean).join(' '), second].filter(Boolean).join(' · '), '']
    : [first, second];
  const marked = mark !== '' && !narrow;
  const off = marked ? 5 : 0;
  set(parts.above, {
    x: label.x,
    y: narrow ? label.y + 4 : label.y - 7 - off,
    'text-anchor': label.anchor,
  });
  set(parts.below, { x: label.x, y: label.y + 17 + off, 'text-anchor': label.anchor });
  setText(parts.above, text[0]);
  setText(parts.below, text[1]);
  set(parts.disc, { cx: label.x, cy: label.y, visibility: marked ? 'visible' : 'hidden' });
  set(parts.mark, { x: label.x, y: label.y + 4, 'text-anchor': 'middle' });
  setText(parts.mark, marked ? mark : '');
}

/** The tone of an edge that calls use; `slowMs` is the p95 from which it is slow. */
export function toneOfEdge({ perS, success, p95 }, slowMs = 2000) {
  if (perS === null || perS === undefined || perS < 0.05) return 'idle';
  if (success !== null && success < 0.95) return 'bad';
  return p95 !== null && p95 !== undefined && p95 > slowMs ? 'slow' : 'good';
}
