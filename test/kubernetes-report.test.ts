// The report of `outrigger inject`: what it did, left and doubts, for people and for programs, and never a secret.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { parseAllDocuments } from 'yaml';
import { runProcess } from '../scripts/harness/process.ts';
import { serviceTargets } from '../sidecar/kubernetes/inject/service-target.ts';

t.setTimeout(180_000);

const root = join(import.meta.dirname, '..');
const folder = mkdtempSync(join(tmpdir(), 'outrigger-report-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));

/** Runs inject; standard output and error apart. */
async function inject(t: Test, text: string | Buffer, ...flags: string[]) {
  return injectFile(t, 'in.yaml', text, ...flags);
}

async function injectFile(t: Test, name: string, text: string | Buffer, ...flags: string[]) {
  const file = join(folder, name);
  const errors = join(folder, 'stderr');
  writeFileSync(file, text);
  const args = [join(root, 'sidecar/main.ts'), 'inject', '-f', file, ...flags];
  const script = `exec "$@" 2>"${errors}"`;
  const { code, output } = await runProcess(t, 'sh', ['-c', script, 'sh', process.execPath, ...args]);
  return { code, output, errors: readFileSync(errors, 'utf8') };
}

const service = (targetPort: string, annotations = '') => `apiVersion: v1
kind: Service
metadata:
  name: writer # in front of the pods
${annotations}spec:
  selector: { app: writer }
  ports:
    - name: grpc
      port: 50051
${targetPort}`;
const deployment = (name = '') => `---
apiVersion: apps/v1
kind: Deployment
metadata: { name: writer, namespace: team }
spec:
  selector: { matchLabels: { app: writer } }
  template:
    metadata: { labels: { app: writer } }
    spec:
      containers:
        - name: writer
          image: writer:1
          ports: [{ ${name}containerPort: 50051 }]
          env: [{ name: OPENAI_API_KEY, value: sk-very-secret }]
`;
const NAMED = '  annotations: { outrigger.dev/target-port: name }\n';

t.test(
  'a Service that goes past the sidecar by number is told, and changed when its annotation asks',
  async (t) => {
    const number = '      targetPort: 50051 # the number\n';
    const input = service(number) + deployment('name: grpc, ');
    const told = await inject(t, input);
    t.equal(told.code, 0);
    t.match(told.errors, /^Deployment team\/writer: injected$/m);
    t.match(told.errors, /^ {2}did +the sidecar serves port 50051 \(grpc\) at 15006/m);
    t.match(
      told.errors,
      /^ {2}doubt +the Service writer sends its port grpc to the number 50051, past the sidecar; /m,
    );
    t.match(told.errors, /^1 injected, 0 unchanged, 0 refused; 1 doubt$/m);
    t.ok(told.output.startsWith(service(number)), 'the Service stays byte for byte');
    // Without a targetPort the port's own number counts.
    t.match((await inject(t, service('') + deployment('name: grpc, '))).errors, /past the sidecar/);
    // A name, or a number of another pod, is right.
    const named = service('      targetPort: grpc\n');
    t.match((await inject(t, named + deployment('name: grpc, '))).errors, / 0 doubts$/m);
    const elsewhere = input.replace('name: writer #', 'namespace: other\n  name: writer #');
    t.match((await inject(t, elsewhere)).errors, / 0 doubts$/m);

    const asked = await inject(t, service(number, NAMED) + deployment('name: grpc, '));
    t.match(asked.errors, /^ {2}did +the Service writer sends its port grpc to the name grpc now/m);
    t.match(asked.errors, / 0 doubts$/m);
    t.match(asked.output, /targetPort: grpc # the number/);
    const [given, { spec }] = parseAllDocuments(asked.output).map((document) => document.toJS());
    t.match(serviceTargets(given, spec.template.spec), [{ leads: 'sidecar', number: 15006 }]);
    const nameless = await inject(t, service(number, NAMED) + deployment());
    t.match(nameless.output, /targetPort: grpc-outrigger # the number/, "the sidecar's own name");
    const intercepted = input.replace(
      'labels: { app: writer } }',
      'labels: { app: writer }, annotations: { outrigger.dev/intercept: "true" } }',
    );
    t.match((await inject(t, intercepted)).errors, / 0 doubts$/m, 'interception takes the number, too');
  },
);

t.test('a hostPort and a NetworkPolicy that know the number alone are told', async (t) => {
  const policy = (ports: string) => `---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: to-writer }
spec:
  podSelector: { matchLabels: { app: writer } }
  ingress: [{ ports: [${ports}] }]
`;
  const at = (ports: string) => inject(t, deployment('name: grpc, ') + policy(ports));
  t.match(
    (await at('{ port: 50051 }')).errors,
    /doubt +the NetworkPolicy to-writer admits port 50051 and not 15006/,
  );
  t.match((await at('{ port: 50051 }, { port: 15006 }')).errors, / 0 doubts$/m);
  t.match((await at('{ port: grpc }')).errors, / 0 doubts$/m, 'a name moves with the port');
  const host = deployment('hostPort: 50051, ');
  t.match((await inject(t, host)).errors, /doubt +hostPort 50051 leads to the app past the sidecar/);
});

t.test('the report as JSON goes to a file, or out with the manifests, and has no secret', async (t) => {
  const input = deployment('name: grpc, ');
  const file = join(folder, 'report.json');
  const yaml = await inject(t, input, '--report', file);
  const report = JSON.parse(readFileSync(file, 'utf8'));
  t.match(report.workloads, [
    { kind: 'Deployment', namespace: 'team', name: 'writer', outcome: 'injected', doubts: [], problems: [] },
  ]);
  const { output, errors } = await inject(t, input, '--output', 'json');
  t.strictSame(JSON.parse(output), { report, manifests: yaml.output });
  t.equal(errors, yaml.errors, 'people read the same');
  t.notMatch(JSON.stringify(report) + errors, /sk-very-secret/);
  const refused = await inject(t, input.replace('50051', '15006'), '-o', 'json', '--report', file);
  t.equal(refused.code, 64);
  t.match(JSON.parse(refused.output), {
    manifests: null,
    report: { workloads: [{ outcome: 'refused', problems: [/containerPort 15006/] }] },
  });
  t.match(JSON.parse(readFileSync(file, 'utf8')), { workloads: [{ outcome: 'refused' }] });
  t.match(await inject(t, input, '-o', 'table'), { code: 64, errors: /--output takes yaml or json/ });
  t.match(await inject(t, input, '--report', '/nowhere/x'), {
    code: 64,
    errors: /can't be written \(ENOENT\)/,
  });
  t.match((await inject(t, 'a: 1\n')).errors, /found no workload/);
});

t.test('kinds of others are injected, or named; templates of Helm are refused with their line', async (t) => {
  const rollout = deployment('name: grpc, ')
    .replace('apps/v1', 'argoproj.io/v1alpha1')
    .replace('Deployment', 'Rollout');
  const told = await inject(t, rollout);
  t.match(told.errors, /^Rollout team\/writer: injected$/m);
  t.match(told.output, /- name: outrigger$/m);
  const reference =
    'apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {name: r}\nspec: {workloadRef: {kind: Deployment, name: writer}}\n';
  t.match(
    (await inject(t, reference)).errors,
    /left +its pods come from the Deployment writer \(workloadRef\); inject that/,
  );
  const knative = rollout
    .replace('argoproj.io/v1alpha1', 'serving.knative.dev/v1')
    .replace('Rollout', 'Service');
  const left = await inject(t, knative);
  t.match(left.errors, /^Service team\/writer: unchanged\n {2}left +Knative accepts no native sidecar/m);
  t.equal(left.output, knative);
  const own = rollout.replace('argoproj.io/v1alpha1', 'agents.example/v1').replace('Rollout', 'AgentFleet');
  t.match(
    (await inject(t, own)).errors,
    /left +inject does not know the kind AgentFleet of agents.example; the webhook/,
  );
  for (const [image, line] of [
    ['{{ .Values.image }}', 12],
    ['"{{ .Values.image }}:{{ .Chart.AppVersion }}"', 12],
    ['{{ include "writer.image" . }}', 12],
  ] as const)
    t.match(await inject(t, deployment().replace('image: writer:1', `image: ${image}`)), {
      code: 64,
      output: '',
      errors: new RegExp(`line ${line}: this is a template of Helm.*helm template NAME CHART`),
    });
  const argument = deployment('name: grpc, ').replace(
    'image: writer:1',
    'image: writer:1\n          args: ["--format={{.Name}}"]',
  );
  t.equal((await inject(t, argument)).code, 0, 'a program may have templates of its own');
});

t.test('input that is not UTF-8 is refused, and a byte order mark of UTF-8 stays', async (t) => {
  const text = deployment('name: grpc, ');
  const inputs: readonly [string, Buffer, RegExp][] = [
    ['Latin-1', Buffer.from(`# caf\u00e9\n${text}`, 'latin1'), /in\.yaml is not UTF-8; save it as UTF-8$/m],
    ['binary', Buffer.from([0x1f, 0x8b, 8, 0, 0xff, 0xc0]), /in\.yaml is not UTF-8; save it as UTF-8$/m],
    ['UTF-16, little end first', Buffer.from(`\ufeff${text}`, 'utf16le'), /is UTF-16 and not UTF-8; save it/],
    [
      'UTF-16, big end first',
      Buffer.from(`\ufeff${text}`, 'utf16le').swap16(),
      /is UTF-16 and not UTF-8; save/,
    ],
  ];
  for (const [name, bytes, errors] of inputs)
    t.match(await inject(t, bytes), { code: 64, output: '', errors }, name);
  const marked = await inject(t, `\ufeff# caf\u00e9 \ufffd\n${text}`);
  t.equal(marked.code, 0);
  t.match(marked.output, /^\ufeff# caf\u00e9 \ufffd\n/, 'the same characters');
  t.match(marked.output, /- name: outrigger$/m);
});

t.test('control characters of the input and of its path reach no terminal', async (t) => {
  const esc = '\\e[32m\\x9b\\u202e\\a';
  const pod = (metadata: string, spec: string) =>
    `{apiVersion: v1, kind: Pod, metadata: {${metadata}}, spec: {containers: [{name: a, image: a, ${spec}}]}}\n`;
  for (const [input, code] of [
    [pod(`name: "${esc}", annotations: {"outrigger.dev/${esc}foo": x}`, ''), 64],
    [pod(`name: a, annotations: {outrigger.dev/log-level: "${esc}"}`, ''), 64],
    [pod(`name: a, annotations: {outrigger.dev/endpoint-slices: "${esc}"}`, ''), 64],
    [
      pod('name: a', `ports: [{name: outrigger-in, containerPort: 1}]`).replace(
        'name: a,',
        `name: "${esc}",`,
      ),
      0,
    ],
    [pod('name: a', `ports: [{containerPort: 15006}]`).replace('[{name: a', `[{name: "${esc}"`), 64],
    [pod('name: a', `env: [{name: "${esc}_AGENT_ADDR", value: "w:1"}]`), 0],
    [`a: "${esc}\n`, 64],
  ] as const) {
    const told = await injectFile(t, 'in\u001b[31m\u009b.yaml', input);
    t.equal(told.code, code, told.errors);
    t.notMatch(told.errors, /(?!\n)[\p{Cc}\p{Cf}]/u, input);
    t.match(told.errors, /\ufffd/, 'shown, not left out');
  }
});

t.test(
  'a called Service with one address of its own is told, because its pods are out of sight',
  async (t) => {
    const caller = (address: string, annotations = '') =>
      deployment('name: grpc, ')
        .replace('labels: { app: writer }', `labels: { app: writer }${annotations}`)
        .replace('env: [', `env: [{ name: EDITOR_AGENT_ADDR, value: "${address}" }, `);
    const called = (spec: string, metadata = 'name: editor') =>
      `apiVersion: v1\nkind: Service\nmetadata: { ${metadata} }\nspec: { ${spec} }\n`;
    const ports = 'selector: { app: editor }, ports: [{ name: calls, port: 7777, targetPort: 9000 }]';
    const doubted =
      /doubt +calls to editor\S*:7777 reach the one address of the Service editor, .*balance.*headless.*EndpointSlices/;
    for (const host of ['editor', 'editor.team', 'editor.team.svc', 'editor.team.svc.cluster.local']) {
      const { errors } = await inject(t, called(ports) + caller(`${host}:7777`));
      t.match(errors, doubted, host);
      t.match(
        errors,
        /left +the Service editor sends its port calls to the number 9000: if its pods have a sidecar/,
      );
      t.notMatch(errors, /nothing here shows/);
    }
    const none = /reach the one address|nothing here shows/;
    for (const [name, input] of [
      ['headless', called(`clusterIP: None, ${ports}`) + caller('editor:7777')],
      ['elsewhere', called('type: ExternalName, externalName: editor.example') + caller('editor:7777')],
      ['by the API', caller('editor:7777', '\n      annotations: { outrigger.dev/endpoint-slices: "true" }')],
      ['a host of the internet', caller('editor.team.example:7777')],
      ['an address', caller('10.0.0.7:7777')],
    ] as const)
      t.notMatch((await inject(t, input)).errors, none, name);
    const named = await inject(t, called(ports.replace('9000', 'calls')) + caller('editor:7777'));
    t.match(named.errors, doubted);
    t.notMatch(named.errors, /to the number/);
    const other = called(ports, 'name: editor, namespace: other') + caller('editor:7777');
    const two = other.replace('env: [', 'env: [{ name: JUDGE_AGENT_ADDR, value: "judge.x.svc:1" }, ');
    t.match(
      (await inject(t, two)).errors,
      /left +nothing here shows the Services behind judge\.x\.svc:1, editor:7777; /,
    );
  },
);
