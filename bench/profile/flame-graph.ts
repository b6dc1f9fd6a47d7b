// A flame graph as a page of its own: callers above, what they call below, width is time. A click enlarges a function, a
// click on the root shows everything again.
import { escapeHtml } from '../../scripts/reports/chart.ts';
import type { Frame } from './cpu-profile.ts';

const WIDTH = 1_400;
const ROW_HEIGHT = 18;
const CHARACTER_WIDTH = 6.6;
/** We omit narrower rectangles. */
const MIN_SHARE = 0.0004;

export function flameGraph(title: string, root: Frame): string {
  const boxes: string[] = [];
  let depths = 0;
  const draw = (frame: Frame, from: number, depth: number): void => {
    const share = frame.totalUs / root.totalUs;
    if (share < MIN_SHARE) return;
    depths = Math.max(depths, depth + 1);
    boxes.push(box(frame, from, share, depth, frame.selfUs / root.totalUs));
    let at = from;
    for (const child of frame.children) {
      draw(child, at, depth + 1);
      at += child.totalUs / root.totalUs;
    }
  };
  draw(root, 0, 0);
  return `<!doctype html><html lang="en"><meta charset="utf-8"><title>${escapeHtml(title)}</title>
<style>body{font:14px system-ui,sans-serif;margin:16px}svg{width:100%;height:auto}text{font:11px ui-monospace,monospace;pointer-events:none}
rect{stroke:#fff;stroke-width:.5;cursor:pointer}rect:hover{stroke:#000}</style>
<h1>${escapeHtml(title)}</h1><p id="said">&nbsp;</p>
<svg viewBox="0 0 ${WIDTH} ${depths * ROW_HEIGHT}" role="img" aria-label="${escapeHtml(title)}">${boxes.join('')}</svg>
<script>${SCRIPT}</script></html>
`;
}

function box({ name, place }: Frame, from: number, share: number, depth: number, self: number): string {
  const label = place === '' ? name : `${name} ${place}`;
  const said = `${label}: ${(100 * share).toFixed(2)} %, ${(100 * self).toFixed(2)} % in itself`;
  const fits = Math.floor((share * WIDTH - 6) / CHARACTER_WIDTH);
  const y = depth * ROW_HEIGHT;
  return (
    `<g data-from="${from.toFixed(6)}" data-share="${share.toFixed(6)}" data-label="${escapeHtml(label)}">` +
    `<title>${escapeHtml(said)}</title>` +
    `<rect x="${(from * WIDTH).toFixed(2)}" y="${y}" width="${(share * WIDTH).toFixed(2)}" height="${ROW_HEIGHT - 1}" fill="${colourOf(place)}"/>` +
    `<text x="${(from * WIDTH + 3).toFixed(2)}" y="${y + 12}">${fits > 2 ? escapeHtml(label.slice(0, fits)) : ''}</text></g>`
  );
}

/** A colour for each layer of the sidecar, Node's own in grey. */
function colourOf(place: string): string {
  const layer = place.includes('/') && !place.startsWith('node:') ? place.split('/')[0]! : '';
  if (layer === '' || place.startsWith('node:')) return '#c9ccd1';
  let hue = 0;
  for (const char of layer) hue = (hue * 31 + char.charCodeAt(0)) % 360;
  return `hsl(${hue} 65% 72%)`;
}

const SCRIPT = `
const groups = [...document.querySelectorAll('g')];
const said = document.getElementById('said');
function show(from, share) {
  for (const g of groups) {
    const x = (g.dataset.from - from) / share * ${WIDTH}, w = g.dataset.share / share * ${WIDTH};
    const left = Math.max(0, x), width = Math.min(${WIDTH}, x + w) - left;
    g.style.display = width > 0.3 ? '' : 'none';
    const [, rect, text] = g.children;
    rect.setAttribute('x', left); rect.setAttribute('width', Math.max(0, width));
    text.setAttribute('x', left + 3);
    const fits = Math.floor((width - 6) / ${CHARACTER_WIDTH});
    text.textContent = fits > 2 ? g.dataset.label.slice(0, fits) : '';
  }
}
for (const g of groups) {
  g.addEventListener('click', () => show(+g.dataset.from, +g.dataset.share));
  g.addEventListener('mouseover', () => { said.textContent = g.firstChild.textContent; });
}`;
