// Shows the journal: how many answers later runs got back, and where their requests differed from those before.
import { element, figure, setClass, setText, sync } from '/shared/elements.js';
import { count } from '/shared/numbers.js';

/** Shows the journal; hides it while no answers are kept. */
export function showJournal(section, container, list, journal) {
  section.hidden = journal === null;
  if (journal === null) return;
  sync(container, [journal], ({ store }) => store, createCard, updateCard);
  const differences = journal.differences.map((one, index) => ({ ...one, index }));
  list.hidden = differences.length === 0;
  sync(list, differences, ({ at, index }) => `${at} ${index}`, createDifference, updateDifference);
}

function createCard({ store }) {
  const figures = element('dl', 'figures');
  const state = element('p', 'circuit');
  const card = element(
    'article',
    'card',
    element('h3', '', 'Answers kept ', element('small', '', store)),
    figures,
    state,
  );
  card.parts = {
    stored: figure(figures, 'Stored'),
    replayed: figure(figures, 'Replayed'),
    missed: figure(figures, 'Missed'),
    rate: figure(figures, 'Hit rate'),
    unstored: figure(figures, 'Not stored'),
    state,
  };
  return card;
}

function updateCard(
  { parts },
  { stored, replayed, missed, unstored, late, hit_rate: rate, connected, problem },
) {
  setText(parts.stored, count(stored));
  setText(parts.replayed, count(replayed));
  setText(parts.missed, count(missed));
  setText(parts.rate, rate === null ? '–' : `${Math.round(rate * 100)} %`);
  setText(parts.unstored, late > 0 ? `${count(unstored)}, ${count(late)} late` : count(unstored));
  parts.unstored.classList.toggle('bad', unstored > 0);
  setClass(parts.state, `circuit ${connected ? 'closed' : 'open'}`);
  setText(parts.state, connected ? 'The store is connected' : `The store can't be used: ${problem}`);
}

function createDifference() {
  return element('li', '');
}

function updateDifference(node, { task_id: task, path, from_byte: from, to_byte: to, in: where }) {
  const place = where === '' ? '' : ` in ${where}`;
  setText(
    node,
    `Task ${task || 'without an id'}: a request to ${path} differs first${place}, between bytes ${from} and ${to}.`,
  );
}
