// What each client makes with each server: 24 cases, with what they come to between the ends alone.
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import type { Client, End, Options, Server } from './driver.ts';

export interface Outcome {
  /** One a call, as `CODE SIZES`: what every pair of languages has to agree on. */
  readonly summary: readonly string[];
  /** All that can be seen of the calls: what has to be the same with a sidecar as without. */
  readonly details: readonly string[];
}

export interface Case {
  readonly name: string;
  readonly expected: readonly string[];
  run(client: Client, server: Server): Promise<Outcome>;
}

let keys = 0;

const newKey = (): string => `k${(keys += 1)}-${process.pid}`;

/** Not `date`, which is the time, nor the status, which some clients list as metadata, twice now and then. */
const isSteady = (field: string): boolean => !/^[it]\.(date|grpc-status|grpc-message)=/.test(field);

function outcome(ends: readonly End[], notes: readonly string[] = []): Outcome {
  const summary = ends.map((end) => `${end.code} ${shortened(end.sizes)}`);
  const details = ends.map((end) => [end.message, end.crc, ...end.metadata.filter(isSteady)].join(' | '));
  return { summary: [...summary, ...notes], details };
}

/** The status and nothing else, where the message says when or who. */
function bare(ends: readonly End[], notes: readonly string[] = []): Outcome {
  return { summary: [...ends.map((end) => `${end.code} ${shortened(end.sizes)}`), ...notes], details: [] };
}

/** `5,5,5,7` → `5x3,7` */
function shortened(sizes: string): string {
  const runs: [size: string, times: number][] = [];
  for (const size of sizes.split(',')) {
    const last = runs.at(-1);
    if (last?.[0] === size) last[1] += 1;
    else runs.push([size, 1]);
  }
  return runs.map(([size, times]) => (times === 1 ? size : `${size}x${times}`)).join(',');
}

const times = (count: number, size: number): string => Array(count).fill(size).join(',');

/** Calls one after the other. */
function inTurn(...calls: readonly [kind: string, options?: Options][]): Case['run'] {
  return async (client) => {
    const ends: End[] = [];
    for (const [kind, options] of calls) ends.push(await client.call(kind, options));
    return outcome(ends);
  };
}

async function sawCancel(server: Server, key: string): Promise<string> {
  const saw = await waitUntil('the server saw the cancel', () => server.said(`${key} cancelled`), {
    limitMs: 20_000,
  }).then(
    () => true,
    () => false,
  );
  return `the server ${saw ? 'saw' : 'did not see'} it`;
}

const allBytes = Buffer.from(Array.from({ length: 256 }, (_, value) => value)).toString('hex');
/** A `google.rpc.Status` with a `BytesValue` of 1,000 bytes. */
const details = statusDetails();
const codes = Array.from({ length: 16 }, (_, at) => at + 1);
const messages = [
  'no such document: ',
  ' indented',
  'caf\u00e9 \u4f60\u597d \u{1f6f6}',
  '100 % of "that"',
  'two\nlines',
  'x'.repeat(1_000),
];

export const cases: readonly Case[] = [
  { name: 'unary', expected: ['0 100'], run: inTurn(['unary', { send: 100 }]) },
  {
    name: 'empty messages and empty streams',
    expected: ['0 0', '0 0', '0 ', '0 ', '0 0x2'],
    run: inTurn(
      ['unary', { send: 0 }],
      ['client'],
      ['server', { send: 0 }],
      ['bidi'],
      ['bidi', { send: '0,0' }],
    ),
  },
  { name: 'large messages', expected: ['0 3000000'], run: inTurn(['unary', { send: 3_000_000 }]) },
  {
    name: 'a stream of requests',
    expected: ['0 170106'],
    run: inTurn(['client', { send: '0,1,100,70000,5,100000' }]),
  },
  {
    name: 'a stream of answers',
    expected: ['0 10x20'],
    run: inTurn(['server', { send: 10, 'm.do-count': 20 }]),
  },
  {
    name: 'a stream of 10 MiB',
    expected: ['0 262144x40'],
    run: inTurn(['server', { send: 262_144, 'm.do-count': 40 }]),
  },
  {
    name: 'message for message',
    expected: ['0 10,0,70000,1'],
    run: inTurn(['bidi', { send: '10,0,70000,1', turns: 1 }]),
  },
  {
    name: 'answers after the half-close',
    expected: ['0 10x5'],
    run: inTurn(['bidi', { send: times(5, 10), 'm.do-late': 1 }]),
  },
  {
    name: 'the server ends early',
    expected: ['0 10', '0 20000'],
    run: inTurn(
      ['bidi', { send: '10,10,10', turns: 1, 'm.do-after': 1 }],
      ['client', { send: times(50, 20_000), 'm.do-after': 1 }],
    ),
  },
  {
    name: 'the server refuses early',
    expected: ['10 '],
    run: inTurn(['client', { send: times(50, 20_000), 'm.do-after': 1, 'm.do-code': 10 }]),
  },
  {
    name: 'metadata',
    expected: ['0 1', '0 1'],
    run: inTurn(
      [
        'unary',
        { send: 1, 'm.e-one': ['a', 'b, c'], 'm.e-all-bin': allBytes, 'm.e-two-bin': ['00', 'ff01'] },
      ],
      ['bidi', { send: 1, 'm.e-empty': '', 'm.e-marks': '!"#$%&\'()*+,-./:;<=>?@[\\]^_`{|}~' }],
    ),
  },
  {
    name: 'metadata with spaces',
    expected: ['0 1', '0 1'],
    run: inTurn(['unary', { send: 1, 'm.e-inner': 'a  b' }], ['unary', { send: 1, 'm.e-padded': ' ann ' }]),
  },
  {
    name: 'large metadata',
    expected: ['0 1'],
    run: inTurn(['unary', { send: 1, 'm.e-large': 'm'.repeat(3_000), 'm.e-large-bin': 'ab'.repeat(1_000) }]),
  },
  {
    name: 'statuses with messages',
    expected: messages.map(() => '5 '),
    run: inTurn(
      ...messages.map((text): [string, Options] => {
        return ['unary', { send: 1, 'm.do-code': 5, 'm.do-message': encodeURIComponent(text), 'm.e-x': 'y' }];
      }),
    ),
  },
  {
    name: 'every status',
    expected: codes.flatMap((code) => [`${code} `, '0 1']),
    run: inTurn(
      ...codes.flatMap((code): [string, Options][] => {
        return [
          ['unary', { send: 1, 'm.do-code': code }],
          ['unary', { send: 1 }],
        ];
      }),
    ),
  },
  {
    name: 'a failure after messages',
    expected: ['15 7x3', '9 7x2'],
    run: inTurn(
      ['server', { send: 7, 'm.do-count': 5, 'm.do-after': 3, 'm.do-code': 15, 'm.e-x': 'y' }],
      ['bidi', { send: '7,7,7', turns: 1, 'm.do-after': 2, 'm.do-code': 9, 'm.do-message': 'enough' }],
    ),
  },
  {
    name: 'details of a failure',
    expected: ['9 ', '9 1'],
    run: inTurn(
      ['unary', { send: 1, 'm.do-code': 9, 'm.do-message': 'see', 'm.do-details-bin': details }],
      ['server', { send: 1, 'm.do-count': 1, 'm.do-after': 1, 'm.do-code': 9, 'm.do-details-bin': details }],
    ),
  },
  {
    name: 'a deadline passes',
    expected: ['4 ', 'the server saw it'],
    async run(client, server) {
      const key = newKey();
      const end = await client.call('unary', { send: 1, deadline: 700, 'm.do-hang': 1, 'm.do-key': key });
      return bare([end], [await sawCancel(server, key)]);
    },
  },
  {
    name: 'the server sees the deadline',
    expected: ['0 1', '0 1', '50 to 60 s left', 'none'],
    async run(client) {
      const with60 = await client.call('unary', { send: 1, deadline: 60_000, 'm.do-deadline': 1 });
      const without = await client.call('bidi', { send: 1, 'm.do-deadline': 1 });
      const notes = [with60, without].map(({ metadata }) => {
        const left = metadata.find((field) => field.match(/^[it]\.deadline=/) !== null)?.slice(11);
        // Some servers count from a clock that has ticked less often.
        return Number(left) > 50_000 && Number(left) < 61_000 ? '50 to 60 s left' : `${left}`;
      });
      return bare([with60, without], notes);
    },
  },
  {
    name: 'the caller cancels',
    expected: ['1 10', 'the server saw it', '1 ', 'the server saw it'],
    async run(client, server) {
      const [open, hanging] = [newKey(), newKey()];
      const stream = client.begin('bidi', { send: '10,10', turns: 1, hold: 1, cancel: 1, 'm.do-key': open });
      await client.held(stream);
      client.go(stream);
      const first = bare([await client.end(stream)], [await sawCancel(server, open)]);
      const unary = client.begin('unary', {
        send: 1,
        hold: 0,
        cancel: 1,
        'm.do-hang': 1,
        'm.do-key': hanging,
      });
      await client.held(unary);
      await waitUntil('the call came to the server', () => server.said(`${hanging} started`));
      client.go(unary);
      const second = bare([await client.end(unary)], [await sawCancel(server, hanging)]);
      return { summary: [...first.summary, ...second.summary], details: [] };
    },
  },
  {
    name: 'the server cancels',
    expected: ['1 10', '1 '],
    run: inTurn(
      ['bidi', { send: '10,10', turns: 1, 'm.do-after': 1, 'm.do-code': 1, 'm.do-message': 'no more' }],
      ['unary', { send: 1, 'm.do-code': 1, 'm.do-message': 'no more' }],
    ),
  },
  {
    name: 'gzip',
    expected: ['0 50000', '0 100,0,50000', '0 150000'],
    run: inTurn(
      ['unary', { send: 50_000, gzip: 1, 'm.do-gzip': 1 }],
      ['bidi', { send: '100,0,50000', gzip: 1, turns: 1, 'm.do-gzip': 1 }],
      ['client', { send: times(3, 50_000), gzip: 1 }],
    ),
  },
  {
    name: 'many calls at once',
    expected: ['100 x 0 1000', '20 x 0 10x10'],
    async run(client) {
      const unary = Array.from({ length: 100 }, () => client.begin('unary', { send: 1_000 }));
      const bidi = Array.from({ length: 20 }, () => client.begin('bidi', { send: times(10, 10), turns: 1 }));
      const ends = await Promise.all([...unary, ...bidi].map((id) => client.end(id)));
      const counts = new Map<string, number>();
      for (const line of outcome(ends).summary) counts.set(line, (counts.get(line) ?? 0) + 1);
      return { summary: [...counts].map(([line, count]) => `${count} x ${line}`), details: [] };
    },
  },
  {
    name: 'the server goes away and comes back',
    expected: ['0 10x3', '0 1', 'the server ended', '0 1'],
    async run(client, server) {
      const stream = client.begin('bidi', { send: times(3, 10), turns: 1, hold: 1 });
      await client.held(stream);
      const stop = await client.call('unary', { send: 1, 'm.do-stop': 1 });
      // The stream that runs may end on the connection that takes no new ones.
      client.go(stream);
      const end = await client.end(stream);
      const ended = (await server.ended()) ? 'the server ended' : 'the server did not end';
      await server.stop();
      await server.start();
      const again = await waitUntil('a call came through again', async () => {
        const next = await client.call('unary', { send: 1, deadline: 2_000 });
        return next.code === '0' && next;
      });
      return bare([end, stop], [ended, ...outcome([again]).summary]);
    },
  },
];

function statusDetails(): string {
  const field = (number: number, bytes: Buffer): Buffer => {
    const length = bytes.length < 128 ? [bytes.length] : [(bytes.length & 0x7f) | 0x80, bytes.length >> 7];
    return Buffer.concat([Buffer.from([number * 8 + 2, ...length]), bytes]);
  };
  const type = Buffer.from('type.googleapis.com/google.protobuf.BytesValue');
  const value = field(1, Buffer.alloc(1_000, 'd'));
  const any = Buffer.concat([field(1, type), field(2, value)]);
  return Buffer.concat([Buffer.from([8, 9]), field(2, Buffer.from('see')), field(3, any)]).toString('hex');
}
