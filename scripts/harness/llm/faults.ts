// The sixteen faults of a provider, as scripts in the form of its API, and the outcome that a client of a good egress observes.
import type { ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { OPENAI_FORM, type ProviderForm } from './forms.ts';
import { beginStream, PIECES, type Script, sendJson, WHOLE } from './provider.ts';

/**
 * The time limits of every system in the comparison, as far as it has them: to the first event of a stream, between its
 * events, and for a whole plain answer. All attempts together may take `totalMs`.
 */
export const CLOCKS = { firstByteMs: 1_000, idleMs: 1_000, plainMs: 2_000, totalMs: 6_000, attempts: 3 };
/** An egress has to refuse larger answers. */
export const MAX_ANSWER_BYTES = 2_097_152;

export interface Fault {
  readonly name: string;
  /** Plain, streamed, or both. */
  readonly modes: readonly ('plain' | 'stream')[];
  readonly script: Script;
  /** Whether no process listens on the provider's port. */
  readonly refused?: true;
  /** The outcome that the client must observe: the whole answer, or a visible error. */
  readonly expect: 'answer' | 'error';
  /** The status that the client must get; undefined for any. */
  readonly status?: number;
  /** The limit of requests to the provider; 3 by default. */
  readonly requests?: number;
}

const both = ['plain', 'stream'] as const;
const stream = ['stream'] as const;

const neverAnswers: Script = () => {};

type Answer = (response: ServerResponse) => void | Promise<void>;

function beginPlain(response: ServerResponse, headers = {}): void {
  response.writeHead(200, { 'content-type': 'application/json', ...headers });
}

/** Whether the client has left; a response over HTTP/2 has no state of its own. */
function isGone(response: ServerResponse & { stream?: { destroyed: boolean } }): boolean {
  return response.destroyed || response.stream?.destroyed === true;
}

/** The faults of a provider whose API has this form. */
export function faultsOf(form: ProviderForm): readonly Fault[] {
  const answerWhole: Script = (request, response) => {
    if (!form.isStream(request)) return sendJson(response, 200, form.whole);
    beginStream(response);
    response.write(form.begin);
    for (const piece of PIECES) response.write(form.chunk(piece));
    response.end(form.end);
  };
  const sendError = (response: ServerResponse, status: number, headers = {}): void =>
    sendJson(response, status, form.error(status), headers);
  const answersError =
    (status: number): Script =>
    (_request, response) =>
      sendError(response, status);
  const failsOnce =
    (status: number, headers = {}): Script =>
    (request, response) =>
      request.count > 1 ? answerWhole(request, response) : sendError(response, status, headers);
  /** Answers a streamed request and a plain one in different ways. */
  const byMode =
    (answer: Readonly<Record<Fault['modes'][number], Answer>>): Script =>
    (request, response) =>
      answer[form.isStream(request) ? 'stream' : 'plain'](response);
  const beginHalfStream = (response: ServerResponse): void => {
    beginStream(response);
    response.write(form.begin + form.chunk(PIECES[0]!) + form.chunk(PIECES[1]!));
  };
  const wholeText = JSON.stringify(form.whole);
  const halfText = wholeText.slice(0, wholeText.length / 2);
  /** Sends the beginning of an answer; a plain one announces its whole length. */
  const beginHalf = byMode({
    stream: beginHalfStream,
    plain: (response) => {
      beginPlain(response, { 'content-length': wholeText.length });
      response.write(halfText);
    },
  });
  return [
    {
      name: '429 with Retry-After',
      modes: both,
      expect: 'answer',
      requests: 2,
      script: failsOnce(429, { 'retry-after': '1' }),
    },
    {
      name: '429 without Retry-After',
      modes: both,
      expect: 'answer',
      requests: 2,
      script: failsOnce(429),
    },
    {
      name: '500, then OK',
      modes: both,
      expect: 'answer',
      requests: 2,
      script: failsOnce(500),
    },
    {
      name: '503 for long',
      modes: both,
      expect: 'error',
      status: 503,
      script: answersError(503),
    },
    {
      name: 'connection refused',
      modes: both,
      expect: 'error',
      requests: 0,
      refused: true,
      script: neverAnswers,
    },
    { name: 'accepts and never answers', modes: both, expect: 'error', script: neverAnswers },
    {
      name: 'slow first byte',
      modes: both,
      expect: 'error',
      script: async (request, response) => {
        if (form.isStream(request)) beginStream(response);
        else beginPlain(response);
        response.flushHeaders();
        await sleep(CLOCKS.totalMs * 4, undefined, { ref: false });
        response.destroy();
      },
    },
    {
      name: 'stream cut mid-way',
      modes: both,
      expect: 'error',
      requests: 1,
      script: async (request, response) => {
        await beginHalf(request, response);
        await sleep(50);
        response.destroy();
      },
    },
    {
      name: 'stream stalled mid-way',
      modes: both,
      expect: 'error',
      requests: 1,
      script: byMode({
        stream: beginHalfStream,
        plain: (response) => {
          beginPlain(response);
          response.write(wholeText.slice(0, 60));
        },
      }),
    },
    {
      name: 'ends without its terminal marker',
      modes: both,
      expect: 'error',
      requests: 1,
      script: byMode({
        stream: (response) => {
          beginHalfStream(response);
          response.end();
        },
        plain: (response) => {
          // Without a length the end of the connection ends the answer: half an answer looks whole.
          beginPlain(response, { connection: 'close' });
          response.end(halfText);
        },
      }),
    },
    {
      name: 'malformed JSON',
      modes: both,
      expect: 'error',
      requests: 1,
      script: byMode({
        stream: (response) => {
          beginStream(response);
          response.write(form.begin + form.chunk(PIECES[0]!));
          response.end(form.broken + form.end);
        },
        plain: (response) => {
          beginPlain(response);
          response.end(form.around[0]);
        },
      }),
    },
    {
      name: '400',
      modes: both,
      expect: 'error',
      status: 400,
      requests: 1,
      script: answersError(400),
    },
    {
      name: '401',
      modes: both,
      expect: 'error',
      status: 401,
      requests: 1,
      script: answersError(401),
    },
    {
      name: 'oversized response',
      modes: both,
      expect: 'error',
      requests: 1,
      script: async (request, response) => {
        const streamed = form.isStream(request);
        if (streamed) beginStream(response);
        else beginPlain(response);
        response.write(streamed ? form.begin : form.around[0]);
        const filler = 'x'.repeat(65_536);
        // Sixteen times the limit; no egress should read that much.
        for (let sent = 0; sent < 16 * MAX_ANSWER_BYTES && !isGone(response); sent += filler.length) {
          if (!response.write(streamed ? form.chunk(filler) : filler))
            await Promise.race([new Promise((resolve) => response.once('drain', resolve)), sleep(2_000)]);
        }
        response.end(streamed ? form.end : form.around[1]);
      },
    },
    {
      name: 'one token at a time, slowly',
      modes: stream,
      expect: 'answer',
      requests: 1,
      script: async (_request, response) => {
        beginStream(response);
        response.write(form.begin);
        for (const piece of PIECES) {
          response.write(form.chunk(piece));
          await sleep(CLOCKS.idleMs * 0.4);
        }
        response.end(form.end);
      },
    },
    {
      name: 'comments only',
      modes: stream,
      expect: 'error',
      script: async (_request, response) => {
        beginStream(response);
        while (!isGone(response)) {
          response.write(': still there\n\n');
          await sleep(100);
        }
      },
    },
  ];
}

export const FAULTS: readonly Fault[] = faultsOf(OPENAI_FORM);

export { WHOLE };
