/** A NATS server with the printed rules, TLS and users: a sidecar does all it needs, and publishes under its own name only. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connect, PermissionViolationError } from '@nats-io/transport-node';
import t from 'tap';
import { TestAuthority } from '../../../scripts/harness/certificates.ts';
import { PATIENCE_MS } from '../../../scripts/harness/patience.ts';
import { runProcess } from '../../../scripts/harness/process.ts';
import { skipWithout } from '../../../scripts/harness/tool.ts';
import { LogSetupError, LogUnavailableError } from '../log/log-errors.ts';
import {
  abortOf,
  answer,
  errorOf,
  JOIN,
  keyOf,
  LONG_LEASE_MS,
  newTask,
  runOne,
  SETTINGS,
  store,
  Watcher,
} from '../log/test-support/logs.ts';
import { openShares } from '../standing-shares.ts';
import {
  chunkSubject,
  deadSubject,
  KEYS,
  keySubject,
  queueStream,
  requestSubject,
  resultSubject,
  SWEEP_SUBJECT,
} from './names.ts';
import { openNatsLog } from './nats-task-log.ts';
import { permissionsText, rulesOf } from './permissions.ts';
import { startNats } from './test-support/nats-server.ts';
import { operatorMode } from './test-support/operator-mode.ts';

const skip = skipWithout('nats-server');
t.setTimeout(2 * PATIENCE_MS);
/** What the counters read of the settings of a bus. */
const BUS = { tls: undefined, trustPublishers: false, replicas: 1 };

t.test(
  'with the printed rules a sidecar publishes as itself only, and all else works',
  { skip },
  async (t) => {
    const gateway = permissionsText({ publisher: 'gateway', publishes: ['research'], takes: [] });
    const agent = permissionsText({
      publisher: 'spiffe://mesh/ns/a/sa/agent',
      publishes: [],
      takes: ['research'],
    });
    const server = await startNats(
      t,
      `authorization { users: [
      { user: operator, password: o }
      { user: gateway, password: g, ${gateway.replace(/^#.*$/m, '')} }
      { user: agent, password: a, ${agent.replace(/^#.*$/m, '')} }
    ] }`,
    );
    const settings = { ...SETTINGS, leaseMs: LONG_LEASE_MS };
    const servers = [server.address];
    const open = async (name: string, password: string, publisher?: string) => {
      const log = await openNatsLog({ servers, settings, user: { name, password }, publisher });
      t.teardown(() => log.close());
      return log;
    };
    const early = await errorOf(open('gateway', 'g', 'gateway'));
    t.ok(early instanceof LogSetupError, 'the streams are not there yet, and it may not make them');
    t.match(early, { message: /outrigger bus setup/ });
    const operator = await open('operator', 'o');
    await store(operator, newTask('first', { publisher: 'operator' }));
    await (await runOne(operator)).settle(answer('end'));

    const [publisher, consumer] = [
      await open('gateway', 'g', 'gateway'),
      await open('agent', 'a', 'spiffe://mesh/ns/a/sa/agent'),
    ];
    const large = Buffer.alloc(3 << 20, 'x');
    await store(
      publisher,
      newTask('a', { publisher: 'gateway', payload: large }),
      newTask('b', { publisher: 'gateway' }),
      newTask('c', { publisher: 'gateway' }),
    );
    const watcher = new Watcher(publisher, keyOf('a'));
    const lease = await runOne(consumer);
    t.equal(lease.record.publisher, 'gateway');
    t.equal((await lease.request()).length, large.length);
    await lease.extend();
    await lease.write(1, Buffer.from('chunk'));
    await lease.settle({ status: 0, payload: large });
    await watcher.ended;
    t.strictSame(watcher.texts.slice(-2), ['chunks 1: 1-1', 'done 1']);
    await publisher.cancel(keyOf('b'), 'x');
    await (await runOne(consumer)).bury('unreadable');
    await consumer.announce({ instance: 'i', name: 'n', version: '1', agentTypes: ['research'], places: 1 });
    t.equal((await publisher.consumers('research')).length, 1);
    t.match(await publisher.status(), [{ agentType: 'research', queued: 0, running: 0, dead: 1 }]);
    t.equal((await publisher.list({ limit: 10 })).records.length, 3, 'its own');
    t.equal((await consumer.list({ limit: 10 })).records.length, 4, 'who takes tasks sees all');

    const asked = newTask('asked', { publisher: 'gateway' });
    for (const waiter of ['one.1', 'two.1'])
      await publisher.submit(asked, { joinEndedForMs: 0, waiter, isWatched: false });
    await publisher.attend('one');
    const run = await runOne(consumer);
    for (const waiter of ['two.1', 'one.1']) await publisher.leave(asked.key, waiter, 'cancelled');
    await abortOf(run.cancelled);
    t.match(await publisher.get(asked.key), { state: 'cancelled' }, 'callers join and leave');

    const forged = await errorOf(publisher.submit(newTask('d', { publisher: 'operator' }), JOIN));
    t.ok(forged instanceof LogSetupError, 'under another name');
    t.match(forged, { message: /forbids publish on outrigger\.keys.*--permissions/ });
    t.ok(
      (await errorOf(consumer.submit(newTask('e', { publisher: 'gateway' }), JOIN))) instanceof LogSetupError,
    );
    t.equal(await operator.get(keyOf('d')), undefined);

    // By hand, with the credentials of the gateway: what is stored under another name.
    const nc = await connect({ servers, user: 'gateway', pass: 'g', inboxPrefix: '_INBOX.gateway' });
    t.teardown(() => nc.close());
    const others = { publisher: 'operator', key: keyOf('first') };
    const subjects = [
      keySubject(others),
      chunkSubject(others, 1),
      requestSubject(others, 'id'),
      resultSubject(others, 'id'),
      deadSubject('research', others),
      `$JS.API.DIRECT.GET.${KEYS}.${keySubject(others)}`,
      `$JS.API.STREAM.PURGE.${KEYS}`,
      `$JS.API.STREAM.MSG.DELETE.${queueStream('research')}`,
      `$JS.API.CONSUMER.CREATE.${KEYS}.all.outrigger.keys.>`,
      `$JS.ACK.${queueStream('research')}.LANE_0.1.1.1.1.0`,
      SWEEP_SUBJECT,
    ];
    for (const subject of subjects) {
      const refused = (await errorOf(nc.request(subject, '', { timeout: PATIENCE_MS }))) as Error;
      t.ok(refused.cause instanceof PermissionViolationError, subject);
    }
    t.match(await operator.get(keyOf('first')), { state: 'done' });
  },
);

t.test('a wrong password, or credentials that are not there, say so', { skip }, async (t) => {
  const server = await startNats(t, 'authorization { users: [{ user: a, password: b }] }');
  const servers = [server.address];
  const wrong = await errorOf(
    openNatsLog({ servers, settings: SETTINGS, user: { name: 'a', password: 'c' } }),
  );
  t.ok(wrong instanceof LogUnavailableError);
  t.match(wrong, { message: /[Aa]uthorization/ });
  const absent = await errorOf(openNatsLog({ servers, settings: SETTINGS, credentialsFile: '/none.creds' }));
  t.ok(absent instanceof LogSetupError);
  t.match(absent, { message: /bus\.credentials_file/ });
});

t.test('credentials files of a server in operator mode bind a sidecar to its name', { skip }, async (t) => {
  const mode = operatorMode();
  const server = await startNats(t, mode.config);
  const folder = t.testdir();
  const open = async (name: string, publisher?: string, setUp?: { agentTypes: string[] }) => {
    const credentialsFile = join(folder, `${name}.creds`);
    const rules = publisher && rulesOf({ publisher, publishes: ['research'], takes: ['research'] });
    writeFileSync(credentialsFile, mode.creds(name, rules || undefined));
    const log = await openNatsLog({
      servers: [server.address],
      settings: { ...SETTINGS, leaseMs: LONG_LEASE_MS },
      credentialsFile,
      publisher,
      setUp,
    });
    t.teardown(() => log.close());
    return log;
  };
  await open('operator', undefined, { agentTypes: ['research'] });
  const sidecar = await open('sidecar', 'sidecar');
  await store(sidecar, newTask('own', { publisher: 'sidecar' }));
  await (await runOne(sidecar)).settle(answer('end'));
  t.match(await sidecar.get(keyOf('own')), { state: 'done', publisher: 'sidecar' });
  const forged = await errorOf(sidecar.submit(newTask('forged', { publisher: 'operator' }), JOIN));
  t.ok(forged instanceof LogSetupError, 'under another name');
});

t.test('mutual TLS to the server, whose rules go by the name in the certificate', { skip }, async (t) => {
  const folder = t.testdir();
  const authority = await TestAuthority.make();
  const files = { ca: join(folder, 'ca.pem') };
  writeFileSync(files.ca, authority.ca);
  const pair = async (name: string, names: string[]): Promise<{ cert: string; key: string }> => {
    const { cert, key } = await authority.issue({ names });
    const paths = { cert: join(folder, `${name}.crt`), key: join(folder, `${name}.key`) };
    writeFileSync(paths.cert, cert);
    writeFileSync(paths.key, key);
    return paths;
  };
  const ours = await pair('server', ['localhost', '127.0.0.1']);
  const [operator, client] = [
    await pair('operator', ['operator.test']),
    await pair('client', ['gateway.test']),
  ];
  const rules = permissionsText({ publisher: 'gateway', publishes: ['research'], takes: ['research'] });
  const server = await startNats(
    t,
    `tls { cert_file: "${ours.cert}", key_file: "${ours.key}", ca_file: "${files.ca}", verify_and_map: true }
    authorization { users: [
      { user: operator.test }
      { user: gateway.test, ${rules.replace(/^#.*$/m, '')} }
    ] }`,
  );
  const servers = [server.address];
  const { ca } = files;
  const all = await openNatsLog({ servers, settings: SETTINGS, tls: { ca, ...operator } });
  t.teardown(() => all.close());
  await store(all, newTask('first', { publisher: 'operator' }));
  await (await runOne(all)).settle(answer('end'));
  const tls = { ca, ...client };
  const log = await openNatsLog({ servers, settings: SETTINGS, tls, publisher: 'gateway' });
  t.teardown(() => log.close());
  await store(log, newTask('a', { publisher: 'gateway' }));
  t.match(await log.get(keyOf('a')), { state: 'queued' });
  const forged = await errorOf(log.submit(newTask('b', { publisher: 'operator' }), JOIN));
  t.ok(forged instanceof LogSetupError, 'the certificate is bound to its name');
  const none = await errorOf(
    openNatsLog({ servers, settings: SETTINGS, tls: { ca, cert: undefined, key: undefined } }),
  );
  t.ok(none instanceof LogUnavailableError, 'without a certificate');
});

t.test('replicas of a service share budgets under exactly the printed rules', { skip }, async (t) => {
  const mode = operatorMode();
  const server = await startNats(t, mode.config);
  const folder = t.testdir({ key: 'sk-shop-0123456789abcdef' });
  const config = join(folder, 'llm.yaml');
  const write = (credentials_file?: string): void =>
    writeFileSync(
      config,
      JSON.stringify({
        name: 'llm.agents',
        bus: { url: `nats://${server.address}`, ...(credentials_file && { credentials_file }) },
        llm: {
          upstreams: [{ name: 'p', url: 'http://127.0.0.1:1/v1' }],
          callers: [{ name: 'shop', key_file: join(folder, 'key'), limits: { requests_per_minute: 60 } }],
        },
      }),
    );
  const main = join(import.meta.dirname, '../../main.ts');
  const setup = (...args: string[]) =>
    runProcess(t, process.execPath, [main, 'bus', 'setup', ...args, '--config', config]);
  const operator = join(folder, 'operator.creds');
  writeFileSync(operator, mode.creds('operator', undefined));
  write();
  const printed = await setup('--permissions', '--output', 'json');
  t.equal(printed.code, 0, printed.output);
  const credentialsFile = join(folder, 'llm.creds');
  writeFileSync(credentialsFile, mode.creds('llm', JSON.parse(printed.output)));
  const url = `nats://${server.address}`;
  const bus = { ...BUS, credentialsFile };
  const early = await errorOf(openShares(bus, url, 'llm.agents'));
  t.match(early, { message: /outrigger bus setup/ }, 'its user makes no streams');
  write(operator);
  const made = await setup();
  t.equal(made.code, 0, made.output);
  const window = { counter: 'shop.day-tokens', window: 1, endsAtMs: Date.now() + 600_000 };
  const draw = { ...window, least: 1, most: 60, total: 100 };
  const taken: number[] = [];
  for (let replica = 0; replica < 3; replica++) {
    const shares = await openShares(bus, url, 'llm.agents');
    t.teardown(() => shares.close());
    taken.push(await shares.take(draw));
  }
  t.strictSame(taken, [60, 40, 0]);
  const other = await errorOf(openShares(bus, url, 'another'));
  t.match(other, { message: /forbids|gave no answer/ }, 'and not the counters of another service');
});

t.test('bus setup prints the rules of the sidecar whose configuration it reads', async (t) => {
  const main = join(import.meta.dirname, '../../main.ts');
  const args = [
    '--bus.url',
    'nats://127.0.0.1:1',
    '--name',
    'gateway',
    '--bus.consume.agent_types',
    '[research]',
  ];
  const { code, output } = await runProcess(t, process.execPath, [
    main,
    'bus',
    'setup',
    '--permissions',
    ...args,
  ]);
  t.equal(code, 0, output);
  t.match(output, permissionsText({ publisher: 'gateway', publishes: [], takes: ['research'] }));
});
