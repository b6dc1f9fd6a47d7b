// Sends a task and shows its answer as it arrives; shows the results of the tasks that the local system sends.

/** A task that takes longer has a different colour. */
const SLOW_MS = 2000;

/** Parses server-sent events of a response's body; EventSource cannot POST. */
async function* eventsOf(response) {
  let text = '';
  for await (const part of response.body.pipeThrough(new TextDecoderStream())) {
    text += part;
    const blocks = text.split('\n\n');
    text = blocks.pop();
    for (const block of blocks) {
      const event = /^event: (.*)$/m.exec(block)?.[1];
      const data = /^data: (.*)$/m.exec(block)?.[1];
      if (event && data) yield { event, data: JSON.parse(data) };
    }
  }
}

function post(task, accept, signal) {
  return fetch('/api/v1/tasks', {
    method: 'POST',
    signal,
    headers: { 'content-type': 'application/json', accept },
    body: JSON.stringify(task),
  });
}

/** Why a task failed; `model` is set if its agent's model did not answer. */
class TaskError extends Error {
  constructor({ code, message, model }) {
    super(code === undefined ? message : `${code}: ${message}`);
    this.model = model;
  }
}

/**
 * Sends a task and passes on the chunks of its answer as they arrive.
 *
 * @throws TaskError
 */
export async function streamTask(task, signal, onChunk) {
  const response = await post(task, 'text/event-stream', signal);
  if (!response.headers.get('content-type')?.startsWith('text/event-stream')) {
    throw new TaskError((await response.json()).error ?? { message: response.statusText });
  }
  for await (const { event, data } of eventsOf(response)) {
    if (event === 'chunk') onChunk(data.chunk);
    else if (event === 'done') return data;
    else throw new TaskError(data.error);
  }
  throw new TaskError({ message: 'the connection closed before the end of the answer' });
}

/** The tasks that the local system sends: a square for each, and the totals. */
export function showSent(strip, summary, { total, succeeded, failed, recent }) {
  while (strip.childElementCount > recent.length) strip.lastElementChild.remove();
  recent.forEach(({ state, ms, error }, i) => {
    const square = strip.children[i] ?? strip.appendChild(document.createElement('li'));
    const look = state === 'succeeded' && ms > SLOW_MS ? 'slow' : state;
    if (square.className !== look) square.className = look;
    square.title =
      state === 'running' ? 'running' : `${state} after ${ms} ms${error === '' ? '' : `: ${error}`}`;
  });
  const running = total - succeeded - failed;
  const parts = [`${succeeded} succeeded`, `${failed} failed`];
  if (running > 0) parts.push(`${running} running`);
  const text = total === 0 ? 'No tasks yet. Press Keep sending.' : `${total} sent: ${parts.join(', ')}.`;
  if (summary.textContent !== text) summary.textContent = text;
}
