// The page of the local system: sends a task and shows its answer as it arrives.

const form = document.querySelector('#task');
const answer = document.querySelector('#answer');
const outcome = document.querySelector('#outcome');
const cancel = document.querySelector('#cancel');

/** Reads server-sent events from a response's body; EventSource cannot POST. */
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

async function send(task, signal) {
  const response = await fetch('/api/v1/tasks', {
    method: 'POST',
    signal,
    headers: { 'content-type': 'application/json', accept: 'text/event-stream' },
    body: JSON.stringify(task),
  });
  if (!response.headers.get('content-type')?.startsWith('text/event-stream')) {
    throw new Error((await response.json()).error?.message ?? response.statusText);
  }
  for await (const { event, data } of eventsOf(response)) {
    if (event === 'chunk') answer.textContent += data.chunk;
    else if (event === 'done') return data;
    else throw new Error(`${data.error.code}: ${data.error.message}`);
  }
  throw new Error('the connection broke off');
}

form.addEventListener('submit', async (event) => {
  event.preventDefault();
  const leave = new AbortController();
  const [submit] = form.getElementsByTagName('button');
  cancel.onclick = () => leave.abort();
  answer.textContent = '';
  outcome.textContent = 'Running';
  submit.disabled = true;
  cancel.disabled = false;
  try {
    const { task_id: id, latency_ms: latency } = await send(
      Object.fromEntries(new FormData(form)),
      leave.signal,
    );
    outcome.textContent = `Done in ${latency} ms, task ${id}`;
  } catch (error) {
    outcome.textContent = leave.signal.aborted ? 'Cancelled' : `Failed: ${error.message}`;
  } finally {
    submit.disabled = false;
    cancel.disabled = true;
    void showAgents();
  }
});

async function showAgents() {
  const { agents } = await (await fetch('/api/v1/health')).json();
  const rows = Object.entries(agents).map(([type, { agent_name: name, version, healthy, error }]) => {
    const row = document.createElement('tr');
    for (const text of [type, name, version, healthy ? 'healthy' : (error ?? 'not healthy')]) {
      row.insertCell().textContent = text ?? '';
    }
    return row;
  });
  document.querySelector('#agents').replaceChildren(...rows);
  const select = form.elements.agent_type;
  if (select.options.length === 0)
    select.replaceChildren(...Object.keys(agents).map((type) => new Option(type)));
}

async function showLinks() {
  for (const { name, url } of await (await fetch('/page/links')).json()) {
    const link = Object.assign(document.createElement('a'), { href: url, textContent: name });
    const item = document.createElement('li');
    item.append(link);
    document.querySelector('#links').append(item);
  }
}

await Promise.all([showAgents(), showLinks()]);
