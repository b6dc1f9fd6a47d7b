/** Tests the facts that a request's head says. */
import t from 'tap';
import { headOf } from '../http2/head.ts';
import { HeaderList } from '../http2/hpack/header-list.ts';
import { isGrpcContentType, RequestInfo, requestInfo } from './request-info.ts';
import { responseInfo } from './response-info.ts';

t.test('the content-type shows whether a request is gRPC', async (t) => {
  for (const type of ['application/grpc', 'application/grpc+proto', 'application/grpc;charset=utf-8'])
    t.equal(isGrpcContentType(type), true, type);
  for (const type of ['', 'application/grp', 'application/grpcx', 'application/grpc-web', 'text/html'])
    t.equal(isGrpcContentType(type), false, type);
});

t.test('the list for upstream lacks grpc-timeout, and nothing else', async (t) => {
  const fields = ['x-a', '1', 'grpc-timeout', '5S', 'authorization', 'secret', 'x-a', '2'];
  // The third field must never be indexed.
  const list = new HeaderList(fields, [2]);
  const info = new RequestInfo(list);
  t.equal(info.timeoutMs, 5_000);
  const rest = info.withoutVarying(list);
  t.strictSame(rest.fields, ['x-a', '1', 'authorization', 'secret', 'x-a', '2']);
  t.strictSame(rest.neverIndexed, [1]);
  t.equal(info.withoutVarying(list), rest, 'made once');
  const without = new HeaderList(['x-a', '1']);
  t.equal(new RequestInfo(without).withoutVarying(without), without, 'nothing to take out, nothing made');
});

t.test('a new call path replaces the received one, once for each list that callers repeat', async (t) => {
  const list = new HeaderList(
    ['x-a', '1', 'outrigger-path', 'a', 'grpc-timeout', '5S', 'authorization', 'b'],
    [3],
  );
  const info = new RequestInfo(list);
  t.equal(info.callPath, 'a');
  const own = info.withPath('a,b');
  t.strictSame(own.fields, ['x-a', '1', 'grpc-timeout', '5S', 'authorization', 'b', 'outrigger-path', 'a,b']);
  t.strictSame(own.neverIndexed, [2]);
  t.equal(info.withPath('a,b'), own);
  t.strictSame(info.withoutVarying(own).fields, ['x-a', '1', 'authorization', 'b', 'outrigger-path', 'a,b']);
  t.equal(info.withPath('a'), list, 'nothing to change');
  t.strictSame(info.withoutVarying(list).fields, ['x-a', '1', 'outrigger-path', 'a', 'authorization', 'b']);
  t.strictSame(info.withoutVarying(own).fields, ['x-a', '1', 'authorization', 'b', 'outrigger-path', 'a,b']);
});

t.test('the shortest timeout is read, and a malformed one is reported', async (t) => {
  const infoOf = (value: string): RequestInfo => new RequestInfo(new HeaderList(['grpc-timeout', value]));
  t.ok(infoOf('0m').timeoutMs > 0, 'no time is not "no limit"');
  t.ok(infoOf('1n').timeoutMs > 0);
  t.equal(infoOf('99999999H').timeoutMs, 99_999_999 * 3_600_000);
  for (const value of ['', '1', 'm', '1 m', '1.5S', '-1S']) t.ok(infoOf(value).timeoutMalformed, value);
});

t.test('the facts of a request are derived once for each list', async (t) => {
  const list = new HeaderList([
    ':method',
    'POST',
    ':scheme',
    'http',
    ':path',
    '/a',
    'content-type',
    'application/grpc',
  ]);
  const head = headOf(list, 'request');
  t.equal(requestInfo(list, head), requestInfo(list, head));
  t.equal(requestInfo(list, head).grpc, true);
});

t.test('status and content-type tell gRPC answers from others', async (t) => {
  const infoOf = (...fields: string[]) => {
    const list = new HeaderList(fields);
    return responseInfo(list, headOf(list, fields[0] === ':status' ? 'response' : 'trailers'));
  };
  const grpc = 'application/grpc+proto';
  t.match(infoOf(':status', '200', 'content-type', grpc), { grpc: true, status: -1 });
  t.match(infoOf(':status', '200'), { grpc: true, status: -1 });
  t.match(infoOf(':status', '200', 'content-type', 'text/html'), { grpc: false, contentType: 'text/html' });
  t.match(infoOf(':status', '503', 'content-type', grpc), { grpc: false });
  t.match(infoOf('grpc-status', '5'), { grpc: true, status: 5 });
  t.match(infoOf('grpc-status', '99'), { status: 2 }, 'a code of the future is UNKNOWN');
  t.match(infoOf('x-other', '1'), { grpc: true, status: -1 });
});
