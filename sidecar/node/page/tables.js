// Shows calls in a table: those in flight with the oldest first, or those that have ended.
import { element, setClass, setText, sync } from './elements.js';

/**
 * Makes a table that scrolls inside its box.
 *
 * @param caption names the table for screen readers
 * @param columns [{ title, of(row), toneOf(row) }]
 */
export class Table {
  constructor(box, { caption, columns, empty }) {
    this.columns = columns;
    this.empty = element('p', 'empty', empty);
    this.body = element('tbody');
    const heads = columns.map(({ title }) => Object.assign(element('th', '', title), { scope: 'col' }));
    this.table = element(
      'table',
      'calls-table',
      element('caption', 'hidden', caption),
      element('thead', '', element('tr', '', ...heads)),
      this.body,
    );
    box.append(this.table, this.empty);
  }

  /** @param rows each with an `id` */
  show(rows, empty) {
    this.table.hidden = rows.length === 0;
    this.empty.hidden = rows.length > 0;
    if (empty !== undefined) setText(this.empty, empty);
    sync(
      this.body,
      rows,
      ({ id }) => id,
      () => element('tr', '', ...this.columns.map(() => element('td'))),
      (item, row) =>
        this.columns.forEach(({ of, toneOf }, at) => {
          const cell = item.children[at];
          setText(cell, of(row));
          if (toneOf !== undefined) setClass(cell, toneOf(row));
        }),
    );
  }
}
