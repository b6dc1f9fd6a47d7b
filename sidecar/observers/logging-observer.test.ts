// The log lines for many connection errors in one second, and for many endpoints at once.
import t from 'tap';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import type { Cluster } from '../cluster/cluster.ts';
import { ConnectionError } from '../http2/errors.ts';
import { EventLog } from '../telemetry/events.ts';
import { createLogger } from '../telemetry/log.ts';
import { LoggingObserver } from './logging-observer.ts';

function setUp() {
  const lines: Record<string, unknown>[] = [];
  const stream = { write: (line: string) => void lines.push(JSON.parse(line)) };
  return {
    lines,
    observer: new LoggingObserver(createLogger({ level: 'info', stream }), new EventLog(Date.now)),
  };
}

t.test('one line counts the connection errors without their own line', async (t) => {
  const { lines, observer } = setUp();
  for (let i = 0; i < 200; i++) {
    observer.onConnectionError('inbound', new ConnectionError('peer', 1, 'bad', 'protocol_error'));
    observer.onConnectionError('outbound', new ConnectionError('peer', 1, 'bad', `invented_${i}`));
  }
  t.equal(lines.length, 10);
  const last = await waitUntil('the second is over', () => lines.length > 10 && lines.at(-1)!);
  t.match(last, { msg: 'closed more downstream connections in one second than the log shows' });
  const unlogged = last['unlogged'] as Record<string, number>;
  t.equal(unlogged['inbound protocol_error'], 195);
  t.equal(Object.keys(unlogged).length, 21, 'invented reasons count together');
  t.equal(
    Object.values(unlogged).reduce((sum, count) => sum + count, 0),
    390,
  );
  observer.onConnectionError('inbound', new ConnectionError('peer', 1, 'bad', 'protocol_error'));
  t.equal(lines.length, 12, 'the next second has its own lines');
});

t.test('a line about endpoints counts those that it omits', async (t) => {
  const { lines, observer } = setUp();
  const cluster = { name: 'research', endpoints: { length: 30 } } as unknown as Cluster;
  observer.onEndpoints(
    cluster,
    Array.from({ length: 30 }, (_, i) => `10.0.0.${i}:1`),
    [],
  );
  t.match(lines[0]!['msg'], /\+10\.0\.0\.19:1 and 10 more$/);
});
