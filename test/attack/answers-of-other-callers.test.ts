// A caller sends another caller's task to be given the answer that was made for that one.
import t from 'tap';
import { skipWithout } from '../../scripts/harness/tool.ts';
import { TaskCaller, type TaskOptions } from '../support/task-caller.ts';
import { startScene } from './scene.ts';

t.setTimeout(120_000);

type Fields = NonNullable<TaskOptions['fields']>;

const skip = skipWithout('python');

/** What alice sends, what bob sends, and what both send. */
const callers: readonly [what: string, alice: Fields, bob: Fields][] = [
  ['another x-api-key', [['x-api-key', 'alice']], [['x-api-key', 'bob']]],
  ['no x-api-key', [['x-api-key', 'alice']], []],
  ['another cookie', [['cookie', 'user=alice']], [['cookie', 'user=bob']]],
  [
    'another cookie beside the same',
    [
      ['cookie', 'theme=dark'],
      ['cookie', 'user=alice'],
    ],
    [
      ['cookie', 'theme=dark'],
      ['cookie', 'user=bob'],
    ],
  ],
  [
    'another first authorization',
    [
      ['authorization', 'alice'],
      ['authorization', 'both'],
    ],
    [
      ['authorization', 'bob'],
      ['authorization', 'both'],
    ],
  ],
  [
    'one authorization more',
    [['authorization', 'alice']],
    [
      ['authorization', 'bob'],
      ['authorization', 'alice'],
    ],
  ],
  ['a key in the place of another', [['authorization', 'alice']], [['x-api-key', 'alice']]],
];

/** Asks the grpcio agent for the value of a field of the call itself: what only its caller may see. */
function secretOf(fields: Fields): string {
  return `metadata ${fields[0]?.[0] ?? 'x-api-key'}`;
}

t.test('an answer goes only to the caller that it was made for', { skip }, async (t) => {
  const scene = await startScene(t);
  const { bystander } = await scene.during(async () => {
    const [alice, bob] = [
      await TaskCaller.connect(t, scene.sidecar.inboundPort),
      await TaskCaller.connect(t, scene.sidecar.inboundPort),
    ];
    for (const [what, alices, bobs] of callers) {
      const task = { id: what, input: secretOf(alices) };
      const first = await alice.ask({ ...task, fields: alices });
      t.equal(first.status, 0, what);
      const other = await bob.ask({ ...task, fields: bobs });
      t.equal(other.status, 0, what);
      t.equal(other.deduplicated, undefined, `not alice's answer: ${what}`);
      const again = await alice.ask({ ...task, fields: alices });
      t.equal(again.deduplicated, 'replayed', `her own: ${what}`);
      t.same(again.answer, first.answer);

      // Nor while it is being made.
      const running = { id: `${what}, running`, input: 'sleep 0.3' };
      const [hers, his] = [
        await alice.send({ ...running, fields: alices }),
        await bob.send({ ...running, fields: bobs }),
      ];
      const joined = await alice.ask({ ...running, fields: alices });
      t.equal((await his.ended()).deduplicated, undefined, `he runs his own: ${what}`);
      t.equal((await hers.ended()).status, 0);
      t.match(joined.deduplicated, /^(joined|replayed)$/, `what is hers: ${what}`);
    }
  });
  scene.holds(t, bystander);
});

t.test("scope_headers add an application's own fields to the scope", { skip }, async (t) => {
  const scene = await startScene(t, { config: { inbound: { tasks: { scope_headers: ['X-User'] } } } });
  const caller = await TaskCaller.connect(t, scene.sidecar.inboundPort);
  const ask = async (user: string) => {
    const task = { id: 'task', input: 'metadata x-user', fields: [['x-user', user]] as Fields };
    const { body, deduplicated } = await caller.ask(task);
    t.ok(body.includes(user), 'the answer for this user');
    return deduplicated;
  };
  t.equal(await ask('alice'), undefined);
  t.equal(await ask('bob'), undefined);
  t.equal(await ask('alice'), 'replayed');
});
