// gRPC's rules for the head of a request.
import t from 'tap';
import { HeaderList } from '../http2/hpack/header-list.ts';
import { followsRequestRules } from './request-rules.ts';

const ORDERLY = {
  ':method': 'POST',
  ':scheme': 'http',
  ':path': '/package.Service/Method',
  ':authority': 'agent:50051',
  'content-type': 'application/grpc',
  te: 'trailers',
};

const follows = (fields: Record<string, string | undefined>): boolean =>
  followsRequestRules(
    new HeaderList(
      Object.entries({ ...ORDERLY, ...fields })
        .filter((field): field is [string, string] => field[1] !== undefined)
        .flat(),
    ),
  );

t.test("requests of gRPC's clients follow the rules, and requests that servers refuse do not", async (t) => {
  for (const fields of [
    {},
    { ':path': '/a.B/C?q=%20', ':authority': '[fe80::1%25eth0]:443' },
    { ':authority': '%2Frun%2Fagent.sock' },
    { ':scheme': 'https', te: ' trailers', 'user-agent': 'grpc-node-js/1.14' },
    { 'grpc-encoding': 'gzip', 'grpc-accept-encoding': 'zstd,br', 'grpc-timeout': '5S' },
    { 'x-user_id.v2': 'zoë', 'trace-bin': 'AAEC', 'pair-bin': 'AA==,AAE= , AAEC' },
  ])
    t.equal(follows(fields), true, JSON.stringify(fields));
  for (const fields of [
    { te: undefined },
    { te: 'gzip' },
    { ':method': 'GET' },
    { ':scheme': 'ftp' },
    { ':path': '*' },
    { ':path': '/a b/C' },
    { ':path': '/a.B/é' },
    { ':authority': '/run/agent.sock' },
    { ':authority': 'a b' },
    { ':authority': '<x>' },
    { 'grpc-encoding': 'zstd' },
    { 'x-id-bin': 'no base64!' },
    { x$: '1' },
  ])
    t.equal(follows(fields), false, JSON.stringify(fields));
});
