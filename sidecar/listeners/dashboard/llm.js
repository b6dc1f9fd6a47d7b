// Shows the LLM egress: each upstream with its circuit, and the requests and costs of its models.
import { element, figure, setClass, setText, sync } from '/shared/elements.js';
import { count, span } from '/shared/numbers.js';

/** Shows the egress; hides it while it has had no request. */
export function showLlm(
  section,
  container,
  { upstreams, requests, active_requests: active, waiting_requests: waitingInAll },
) {
  const quiet =
    requests.length === 0 &&
    active + waitingInAll === 0 &&
    upstreams.every(({ state }) => state === 'closed');
  section.hidden = quiet;
  if (quiet) return;
  const cards = upstreams.map((upstream) => ({
    ...upstream,
    waiting: upstream.waiting_requests,
    pairs: requests.filter((pair) => pair.upstream === upstream.name),
  }));
  // Requests that were refused before any provider attempt, or wait for our limits.
  const others = requests.filter(({ upstream }) => !upstreams.some(({ name }) => name === upstream));
  const waiting = upstreams.reduce((rest, one) => rest - one.waiting_requests, waitingInAll);
  if (others.length > 0 || waiting > 0)
    cards.push({ name: 'no upstream', state: 'closed', active_requests: 0, waiting, pairs: others });
  sync(container, cards, ({ name }) => name, createCard, updateCard);
}

function createCard({ name, url = '' }) {
  const figures = element('dl', 'figures');
  const state = element('p', 'circuit');
  const rest = element('p', 'rest');
  const card = element(
    'article',
    'card',
    element('h3', '', name, ' ', element('small', '', url)),
    figures,
    state,
    rest,
  );
  card.parts = {
    requests: figure(figures, 'Requests'),
    failed: figure(figures, 'Failed'),
    active: figure(figures, 'In flight'),
    input: figure(figures, 'Tokens in'),
    output: figure(figures, 'Tokens out'),
    wasted: figure(figures, 'Tokens wasted'),
    state,
    rest,
  };
  return card;
}

/** Counts every outcome but an answer, or a refusal that the caller caused. */
function notAnswered(outcomes) {
  const { success = 0, refused = 0, cancelled = 0, ...others } = outcomes;
  return Object.values(others).reduce((sum, number) => sum + number, 0);
}

function updateCard({ parts }, upstream) {
  const { pairs, active_requests: active, waiting = 0 } = upstream;
  const sum = (of) => pairs.reduce((total, pair) => total + of(pair), 0);
  const failed = sum(({ outcomes }) => notAnswered(outcomes));
  setText(
    parts.requests,
    count(sum(({ outcomes }) => Object.values(outcomes).reduce((all, one) => all + one, 0))),
  );
  setText(parts.failed, count(failed));
  parts.failed.classList.toggle('bad', failed > 0);
  setText(parts.active, waiting > 0 ? `${count(active)} + ${count(waiting)}` : count(active));
  for (const name of ['input', 'output', 'wasted'])
    setText(parts[name], count(sum(({ tokens }) => tokens[name])));
  const state = describeState(upstream);
  setClass(parts.state, `circuit ${upstream.state}`);
  setText(parts.state, state);
  setText(
    parts.rest,
    pairs
      .map(({ model, outcomes }) => {
        const ends = Object.entries(outcomes).map(
          ([outcome, number]) => `${count(number)} ${outcome.replaceAll('_', ' ')}`,
        );
        return `${model}: ${ends.join(', ')}`;
      })
      .join(' · '),
  );
}

function describeState(upstream) {
  const { state, probe_in_ms: probe = 0, rejections = 0, models = [] } = upstream;
  const parts = [`Circuit ${state}`];
  if (probe > 0) parts.push(`next probe in ${span(probe / 1000)}`);
  if (rejections > 0) parts.push(`${count(rejections)} requests rejected`);
  for (const { model, cooling_for_ms: cooling, out_of_credit: code } of models) {
    if (code !== null) parts.push(`${model} is out of credit (${code})`);
    else if (cooling > 0) parts.push(`the provider asks to wait ${span(cooling / 1000)} with ${model}`);
  }
  return parts.join(', ');
}
