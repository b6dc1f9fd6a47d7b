// `npm run test:languages`: gRPC's implementations in other languages as the ends of calls, without a sidecar and
// through sidecars. Each case has to come to the same; see README.md.
//
//   npm run test:languages -- [--clients A,B] [--servers A,B] [--cases PART] [--all]
//
// By default each client meets the server of its own language and that of the next; with --all each meets all.
import { parseArgs } from 'node:util';
import t, { type Test } from 'tap';
import { freePort } from '../../scripts/harness/free-port.ts';
import { outboundTo, startSidecar } from '../../scripts/harness/sidecar.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { type Case, cases, type Outcome } from './cases.ts';
import { Client, Server } from './driver.ts';
import { type Language, languages, type OwnWay, skipWithout } from './ends.ts';

t.setTimeout(4 * 3_600_000);

const { values: flags } = parseArgs({
  options: {
    clients: { type: 'string' },
    servers: { type: 'string' },
    cases: { type: 'string', default: '' },
    all: { type: 'boolean', default: false },
  },
});
const names = Object.keys(languages);
const serverNames = names.filter((name) => languages[name]?.server !== undefined);
const chosenCases = cases.filter(({ name }) => name.includes(flags.cases));

function chosen(list: string | undefined): string[] {
  const wanted = list?.split(',') ?? names;
  for (const name of wanted) {
    if (!names.includes(name)) throw new Error(`no language ${name}; there are ${names.join(', ')}`);
  }
  return wanted;
}

const clientNames = chosen(flags.clients);

function meets(client: string, server: string): boolean {
  if (flags.all || flags.clients !== undefined || flags.servers !== undefined) return true;
  const next = serverNames.find((name) => names.indexOf(name) > names.indexOf(client)) ?? serverNames[0];
  return server === client || server === next;
}

/** An outcome between two ends depends on their own races now and then; with a sidecar it may be any of those. */
const directTries = 3;

async function runCase(the: Case, client: Client, server: Server): Promise<Outcome> {
  try {
    return await the.run(client, server);
  } catch (error) {
    return { summary: ['failed'], details: [`${(error as Error).message}`] };
  }
}

async function testPair(
  t: Test,
  client: Language,
  server: Language,
  running: Server,
  ports: Record<string, number>,
) {
  const direct = new Client(t, client.client, running.port);
  const outcomes = new Map<Case, Outcome>();
  const ownWays = (the: Case): OwnWay[] =>
    [client.clientWays?.[the.name], server.serverWays?.[the.name]].filter((way) => way !== undefined);
  for (const the of chosenCases) {
    const came = await runCase(the, direct, running);
    outcomes.set(the, came);
    if (!isOwnWay(came, ownWays(the))) t.strictSame(came.summary, the.expected, `${the.name}: no sidecar`);
  }
  for (const [way, port] of Object.entries(ports)) {
    const through = new Client(t, client.client, port);
    // The server has gone away and come back: whoever was connected to it connects again in its own time.
    await waitUntil(
      `a call came through the ${way}`,
      async () => (await through.call('unary', { send: 1 })).code === '0',
    );
    for (const the of chosenCases) {
      const came = await runCase(the, through, running);
      let wanted = outcomes.get(the)!;
      for (let tries = 1; tries < directTries && !same(came, wanted); tries += 1) {
        if (isOwnWay(came, ownWays(the))) wanted = came;
        else {
          const again = await runCase(the, direct, running);
          if (same(came, again)) wanted = again;
        }
      }
      t.strictSame(came, wanted, `${the.name}: ${way}`);
    }
    await through.stop();
  }
  await direct.stop();
}

function isOwnWay({ summary }: Outcome, ways: readonly OwnWay[]): boolean {
  return ways.some(({ comesTo }) => comesTo.test(summary.join('; ')));
}

function same(one: Outcome, other: Outcome): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}

for (const serverName of chosen(flags.servers).filter((name) => serverNames.includes(name))) {
  const skip = skipWithout(serverName);
  t.test(`server ${serverName}`, { skip }, async (t) => {
    const server = languages[serverName]!;
    const running = new Server(t, server.server!, await freePort());
    await running.start();
    const app = `127.0.0.1:${running.port}`;
    const before = await startSidecar(t, outboundTo(app), { until: 'live' });
    const beside = await startSidecar(t, { inbound: { app } }, { until: 'live' });
    const chain = await startSidecar(t, outboundTo(`127.0.0.1:${beside.inboundPort}`), { until: 'live' });
    const ports = {
      'inbound sidecar': beside.inboundPort,
      'outbound sidecar': before.outboundPort,
      'two sidecars': chain.outboundPort,
    };
    for (const clientName of clientNames.filter((name) => meets(name, serverName))) {
      await t.test(`client ${clientName}, server ${serverName}`, { skip: skipWithout(clientName) }, (t) =>
        testPair(t, languages[clientName]!, server, running, ports),
      );
    }
    await running.stop();
  });
}
