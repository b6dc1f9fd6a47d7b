// Sends a task and passes on its answer as it arrives.

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
  constructor({ code, message, model, task_id: taskId }) {
    super(code === undefined ? message : `${code}: ${message}`);
    this.model = model;
    this.taskId = taskId;
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
