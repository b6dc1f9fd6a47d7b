// A provider of its own process for the measurements, of three APIs: answers at once, or streams at a pace, with the time of each
// event in it. `node bench/llm/provider.ts` prints its base URL.
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { ANTHROPIC_FORM, GEMINI_FORM, type ProviderForm } from '../../scripts/harness/llm/forms.ts';
import { chatAnswer, chatChunk, DONE, USAGE_CHUNK } from '../../scripts/harness/llm/provider.ts';

const plain = JSON.stringify(chatAnswer());
const piece = chatChunk('word ');
const last = chatChunk(undefined, 'stop') + USAGE_CHUNK + DONE;

const server = createServer((request, response) => {
  const parts: Buffer[] = [];
  request.on('data', (part: Buffer) => parts.push(part));
  request.on('end', () => {
    if (request.method !== 'POST') {
      // LiteLLM looks at the list of models.
      response.writeHead(200, { 'content-type': 'application/json' });
      response.end('{"object":"list","data":[]}');
      return;
    }
    const form = formOf(request.url ?? '');
    if (form !== undefined) {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.end(form.begin + form.chunk('one ') + form.chunk('two ') + form.end);
      return;
    }
    const {
      stream,
      n = 1,
      seed = 0,
    } = JSON.parse(Buffer.concat(parts).toString()) as {
      stream?: boolean;
      n?: number;
      seed?: number;
    };
    if (stream !== true) {
      response.writeHead(200, { 'content-type': 'application/json', 'content-length': plain.length });
      response.end(plain);
      return;
    }
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    pace(response, n, seed);
  });
});

/** The form of another API than OpenAI's, which streams alone ask for here. */
function formOf(path: string): ProviderForm | undefined {
  if (path.includes('/messages')) return ANTHROPIC_FORM;
  return path.includes('GenerateContent') ? GEMINI_FORM : undefined;
}

const timed = (): string => chatChunk(`at ${performance.now().toFixed(2)} `);

/** So many pieces, one every so many milliseconds; 0 sends all at once. */
function pace(response: ServerResponse, pieces: number, everyMs: number): void {
  response.write(everyMs === 0 ? piece : timed());
  if (everyMs === 0) {
    for (let i = 1; i < pieces; i++) response.write(piece);
    response.end(last);
    return;
  }
  let sent = 1;
  const timer = setInterval(() => {
    if (sent++ < pieces) response.write(timed());
    else {
      clearInterval(timer);
      response.end(last);
    }
  }, everyMs);
  response.on('close', () => clearInterval(timer));
}

server.keepAliveTimeout = 120_000;
server.listen(0, '127.0.0.1', () => {
  console.log(`http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`);
});
