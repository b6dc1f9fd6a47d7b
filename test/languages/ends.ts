// The languages, how their programs are started, and where an implementation has a way of its own.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from './driver.ts';

const cache = join(import.meta.dirname, '..', '..', '.cache');
const built = join(cache, 'languages');

/** A case that comes to something else with one implementation, whether or not a sidecar is between. */
export interface OwnWay {
  readonly why: string;
  /** What it may come to, as its summary joined by `; `. */
  readonly comesTo: RegExp;
}

export interface Language {
  /** The programs; each takes the port as its last argument. */
  readonly client: Command;
  readonly server?: Command;
  readonly clientWays?: Readonly<Record<string, OwnWay>>;
  readonly serverWays?: Readonly<Record<string, OwnWay>>;
}

function java(transport: string): Language {
  const path = `${join(built, 'java', 'classes')}:${join(built, 'java', 'lib')}/*`;
  const run = ['java', '-XX:TieredStopAtLevel=1', '-cp', path, 'languages.Main'] as const;
  return { client: [...run, 'client', transport], server: [...run, 'server', transport] };
}

function program(path: string): Language {
  return { client: [path, 'client'], server: [path, 'server'] };
}

function script(interpreter: string, path: string): Language {
  return { client: [interpreter, path, 'client'], server: [interpreter, path, 'server'] };
}

function python(name: string): Language {
  return script(join(cache, 'venv-languages', 'bin', 'python3'), join(import.meta.dirname, name, 'main.py'));
}

const overwritten = 'a write that fails because the call has ended overwrites its status';
const unread = 'the rest of a request is neither read nor refused: a client that writes on waits for ever';
const joined = {
  why: 'C-core refuses binary values that a client has joined by commas',
  comesTo: /^(0 1|13 ); 0 1$/,
};
const reset = 'RST_STREAM behind a whole answer counts';

export const languages: Readonly<Record<string, Language>> = {
  'java-netty': java('netty'),
  // Only as a client: with OkHttp's server calls stall now and then, also between the ends alone.
  'java-okhttp': { client: java('okhttp').client },
  tonic: {
    ...program(join(built, 'tonic', 'debug', 'languages')),
    clientWays: {
      'a deadline passes': {
        why: "the channel's own clock says CANCELLED",
        comesTo: /^[14] ; the server saw it$/,
      },
      'the caller cancels': {
        why: 'to drop a call ends its requests first, and resets the stream behind that',
        comesTo: /^1 10; the server (saw|did not see) it; 1 ; the server saw it$/,
      },
    },
  },
  cpp: { ...program(join(built, 'cpp', 'languages')), serverWays: { metadata: joined } },
  'connect-go': program(join(built, 'connect-go', 'languages')),
  'connect-node': {
    ...script(process.execPath, join(built, 'connect-node', 'main.mjs')),
    clientWays: {
      'the caller cancels': {
        why: 'the stream is reset when it is next read or written',
        comesTo: /^1 10; the server (saw|did not see) it; 1 ; the server saw it$/,
      },
    },
    serverWays: {
      'the server ends early': { why: unread, comesTo: /^(failed|0 10; 0 20000)$/ },
      'the server refuses early': { why: unread, comesTo: /^(failed|10 )$/ },
    },
  },
  'grpc-aio': {
    ...python('grpc-aio'),
    clientWays: {
      'the server ends early': { why: overwritten, comesTo: /^(0|13) 10; (0|13) (20000)?$/ },
      'the server refuses early': { why: overwritten, comesTo: /^(10|13) $/ },
      'a failure after messages': { why: overwritten, comesTo: /^15 7x3; (9|13) 7x2$/ },
      'the server cancels': { why: overwritten, comesTo: /^(1|13) 10; 1 $/ },
    },
    serverWays: { metadata: joined },
  },
  grpclib: {
    ...python('grpclib'),
    serverWays: {
      metadata: { why: 'refuses an empty value', comesTo: /^0 1; (0 1|2 )$/ },
      gzip: {
        why: 'reads no compressed messages',
        comesTo:
          /^(0 50000|2 |unsupported ); (0 100,0,50000|2 (100,0)?|unsupported ); (0 150000|13 |2 |unsupported )$/,
      },
    },
    clientWays: {
      'the server ends early': { why: reset, comesTo: /^([01]|client) (10)?; ([01]|client) (20000)?$/ },
      'the server refuses early': { why: reset, comesTo: /^(1|10|client) $/ },
      'a failure after messages': {
        why: 'a failure drops messages unread',
        comesTo: /^15 [7x23]*; (9|1|client) [7x2]*$/,
      },
      'the server cancels': { why: 'a failure drops messages unread', comesTo: /^(1|client) (10)?; 1 $/ },
      metadata: { why: 'refuses an empty value', comesTo: /^0 1; client $/ },
      gzip: { why: 'compresses nothing', comesTo: /^unsupported ; unsupported ; unsupported $/ },
      'the server goes away and comes back': {
        why: 'GOAWAY ends the calls that run',
        comesTo: /^(0 10x3|client 10|1 10(x2)?); 0 1; the server ended; 0 1$/,
      },
    },
  },
};

/** Why the programs of a language can't be started, or false. */
export function skipWithout(name: string): string | false {
  const file = join(built, 'missing.json');
  const missing: Record<string, string> = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : {};
  return missing[name] === undefined ? false : `without ${name}: ${missing[name]}`;
}
