// Holds the shape of the source: imports go only downwards, no file imports itself in a circle, files
// stay readable, and nothing in the tree depends on the machine it was written on.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import t from 'tap';
import { findCycle, importsOf, valueImportsOf } from './support/imports.ts';

const root = join(import.meta.dirname, '..');

/** Layer (a folder of sidecar/, or main.ts) → the layers it may import besides itself. */
const allowed: Record<string, readonly string[]> = {
  errors: [],
  // What agents/ may import, too: the end of a process, its output, its HTTP/1 connections, types of JSON.
  node: [],
  clock: [],
  // Kinds of lists and maps; knows nothing of what is in them.
  collections: [],
  // Reading files that somebody else names.
  files: [],
  // Addresses and names of servers; a socket only between two parts of this process.
  net: [],
  // Certificates and who is allowed by them; knows nothing of HTTP/2.
  tls: ['files', 'clock', 'node'],
  // Kinds of values that settings have, and what a declaration of settings stands for in the code.
  settings: ['net', 'tls'],
  http2: ['collections', 'clock'],
  grpc: ['http2', 'clock'],
  task: ['settings', 'grpc', 'http2', 'collections', 'clock'],
  // Counters and records; knows no calls. observers/ turns calls into them, and admin/ shows them.
  telemetry: ['settings', 'task', 'grpc', 'http2', 'clock', 'node'],
  policy: ['settings', 'task', 'grpc', 'clock'],
  // A cluster counts its calls where telemetry reads them.
  cluster: ['settings', 'net', 'telemetry', 'task', 'grpc', 'http2', 'tls', 'files', 'clock'],
  proxy: [
    'settings',
    'net',
    'policy',
    'cluster',
    'telemetry',
    'task',
    'grpc',
    'http2',
    'collections',
    'clock',
  ],
  // Beside the proxy: what goes to the provider of a model.
  llm: [
    'journal',
    'settings',
    'policy',
    'telemetry',
    'task',
    'grpc',
    'http2',
    'tls',
    'clock',
    'collections',
    'node',
  ],
  // What goes to tool servers; of the egress for models it has the parts that know no model.
  mcp: ['llm', 'journal', 'settings', 'policy', 'telemetry', 'clock', 'collections'],
  // Tasks on a log; `listeners/` connects it with calls.
  bus: ['settings', 'net', 'policy', 'task', 'grpc', 'tls', 'files', 'clock', 'collections', 'node'],
  // Answers that were paid for, for the next run of their task; in the store of the bus, or a file.
  journal: ['bus', 'settings', 'telemetry', 'task', 'grpc'],
  config: [
    'settings',
    'net',
    'bus',
    'journal',
    'listeners',
    'llm',
    'mcp',
    'proxy',
    'policy',
    'cluster',
    'telemetry',
    'task',
    'grpc',
    'http2',
    'tls',
    'files',
    'clock',
  ],
  listeners: [
    'settings',
    'bus',
    'journal',
    'net',
    'llm',
    'mcp',
    'proxy',
    'policy',
    'cluster',
    'telemetry',
    'task',
    'grpc',
    'http2',
    'tls',
    'clock',
    'collections',
    'node',
  ],
  // The top: main reads the command line, commands carry it out, process puts the parts together.
  'data-plane': [
    'net',
    'settings',
    'bus',
    'journal',
    'config',
    'listeners',
    'llm',
    'mcp',
    'proxy',
    'policy',
    'cluster',
    'telemetry',
    'http2',
    'tls',
    'clock',
  ],
  // What looks at the data plane: the log, traces, and the pages for people and Prometheus.
  observers: [
    'data-plane',
    'bus',
    'listeners',
    'settings',
    'config',
    'llm',
    'mcp',
    'proxy',
    'policy',
    'cluster',
    'telemetry',
    'task',
    'grpc',
    'http2',
    'tls',
    'clock',
  ],
  admin: [
    'observers',
    'bus',
    'journal',
    'data-plane',
    'settings',
    'config',
    'listeners',
    'llm',
    'mcp',
    'proxy',
    'policy',
    'cluster',
    'telemetry',
    'task',
    'grpc',
    'http2',
    'tls',
    'clock',
  ],
  process: [
    'admin',
    'bus',
    'observers',
    'data-plane',
    'settings',
    'config',
    'listeners',
    'llm',
    'mcp',
    'proxy',
    'policy',
    'cluster',
    'telemetry',
    'task',
    'grpc',
    'http2',
    'tls',
    'clock',
    'node',
  ],
  // Beside the data plane: what puts a sidecar into pods, and says the same to Istio.
  'kubernetes/inject': ['settings', 'config', 'clock', 'node'],
  'kubernetes/istio': ['settings', 'config', 'net', 'cluster', 'task', 'grpc', 'clock'],
  'kubernetes/api': [],
  'kubernetes/webhook': [
    'kubernetes/inject',
    'kubernetes/api',
    'process',
    'settings',
    'config',
    'listeners',
    'telemetry',
    'cluster',
    'tls',
    'files',
    'clock',
    'node',
  ],
  // Beside it, too: what asks the bus and the sidecars' pages how many replicas there should be.
  'kubernetes/scaler': [
    'kubernetes/api',
    'bus',
    'settings',
    'config',
    'net',
    'listeners',
    'telemetry',
    'task',
    'grpc',
    'http2',
    'tls',
    'clock',
  ],
  commands: [
    'process',
    'bus',
    'llm',
    'mcp',
    'journal',
    'kubernetes/inject',
    'kubernetes/istio',
    'kubernetes/webhook',
    'kubernetes/scaler',
    'settings',
    'config',
    'net',
    'policy',
    'telemetry',
    'grpc',
    'cluster',
    'tls',
    'clock',
    'node',
  ],
  main: ['commands'],
};

/** Folder of agents/ → the folders of agents/ that it may import besides itself (`agents/README.md`). */
const allowedAgents: Record<string, readonly string[]> = {
  process: [],
  protocol: [],
  tracing: ['process'],
  runtime: ['protocol', 'tracing', 'process'],
  research: ['runtime'],
  writing: ['runtime'],
  code: ['runtime'],
  orchestrator: ['runtime', 'protocol', 'process'],
  gateway: ['protocol', 'tracing', 'process'],
  provider: ['process'],
  local: ['protocol', 'process'],
  tools: ['runtime', 'protocol', 'tracing', 'process'],
};

/**
 * Layers with rooms, folders of their own: what a room may import of the other rooms. The files beside the rooms put them
 * together: they may import each of them, and no room imports them.
 */
const rooms: Record<string, Record<string, readonly string[]>> = {
  bus: {
    log: [],
    memory: [],
    message: ['memory', 'log'],
    local: ['log'],
    nats: ['log'],
    publisher: ['message', 'memory', 'log'],
    consumer: ['message', 'memory', 'log'],
  },
  journal: {
    record: [],
    run: ['record'],
    file: ['record'],
    memory: ['record'],
    nats: ['record'],
  },
  mcp: {
    shared: [],
    message: [],
    server: ['message', 'shared'],
  },
  llm: {
    shared: [],
    kinds: ['shared'],
    money: ['kinds', 'shared'],
    caller: ['kinds', 'shared'],
    service: ['shared'],
    limits: ['kinds', 'shared'],
    answer: ['kinds', 'shared'],
    request: ['service', 'caller', 'limits', 'kinds', 'shared'],
    relay: ['shared'],
    provider: ['relay', 'request', 'answer', 'limits', 'service', 'caller', 'money', 'kinds', 'shared'],
    'web-socket': ['provider', 'relay', 'request', 'caller', 'kinds', 'shared'],
  },
};

/**
 * Folders whose files still import each other in a circle by their types, and may do so among themselves. An entry goes with
 * its last circle.
 */
const circles: readonly string[] = [];

/** What every layer may import: the vocabulary of errors. It imports nothing. */
const vocabulary = 'errors';

/** Files that may have more than 400 lines, each with its reason. */
const longFiles: Record<string, string> = {};

const tracked = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
  cwd: root,
  encoding: 'utf8',
  maxBuffer: 16 << 20,
})
  .split('\0')
  .filter(
    // A deleted file, or a link to a folder whose files the list has anyway.
    (path) => path !== '' && statSync(join(root, path), { throwIfNoEntry: false })?.isFile() === true,
  );

const sourceFiles = tracked.filter((path) => /\.(ts|mjs|py)$/.test(path));
const sidecarFiles = tracked.filter((path) => path.startsWith('sidecar/') && path.endsWith('.ts'));
const isTest = (path: string): boolean => path.endsWith('.test.ts') || path.includes('/test-support/');
const textOf = (path: string): string => readFileSync(join(root, path), 'utf8');

/** `sidecar/http2/hpack/decoder.ts` → `http2`; `sidecar/main.ts` → `main`; each room of `kubernetes/` is one by itself. */
function layerOf(path: string): string {
  const [, first = '', second = ''] = path.split('/');
  return first === 'kubernetes' ? `${first}/${second}` : first.replace(/\.ts$/, '');
}

/** The tracked files that a file imports by relative paths. */
function neighbours(path: string, imports = importsOf): string[] {
  return imports(textOf(path))
    .filter((name) => name.startsWith('.'))
    .map((name) => relative(root, join(root, dirname(path), name)));
}

t.test('the scanner finds every form of import, and only imports', async (t) => {
  const source = [
    "import a, { b } from './a.ts';",
    "import type { C } from './c.ts';",
    "import {\n  d,\n  e,\n} from './d.ts';",
    "import './side-effect.ts';",
    "export { f } from './f.ts';",
    "export * from './g.ts';",
    `const later = await ${'import'}('./h.ts');`,
    "// import z from './comment.ts';",
    "const text = `from './text.ts'`;",
    'export const value = 1;',
  ].join('\n');
  const names = ['a', 'c', 'd', 'side-effect', 'f', 'g', 'h'].map((name) => `./${name}.ts`);
  t.strictSame(importsOf(source).sort(), names.sort());
  t.notOk(valueImportsOf(source).includes('./c.ts'), 'a type import is none at run time');
  t.strictSame(
    findCycle(
      new Map([
        ['a', ['b']],
        ['b', ['c', 'd']],
        ['c', []],
        ['d', ['b']],
      ]),
    ),
    ['b', 'd', 'b'],
  );
  t.equal(
    findCycle(
      new Map([
        ['a', ['b', 'c']],
        ['b', ['c']],
        ['c', []],
      ]),
    ),
    undefined,
  );
});

t.test('imports in sidecar/ go only downwards', async (t) => {
  const problems: string[] = [];
  t.ok(sidecarFiles.length > 10, `${sidecarFiles.length} files of the sidecar were found`);
  for (const path of sidecarFiles.filter((path) => !isTest(path))) {
    const layer = layerOf(path);
    const below = allowed[layer];
    if (below === undefined) {
      problems.push(
        `${path}: the layer ${layer} is not in the table of this test; add it with what it may import`,
      );
      continue;
    }
    for (const target of neighbours(path)) {
      if (!target.startsWith('sidecar/')) {
        problems.push(`${path} imports ${target}: the sidecar stands on nothing else of this repository`);
        continue;
      }
      const targetLayer = layerOf(target);
      if (targetLayer !== layer && targetLayer !== vocabulary && !below.includes(targetLayer)) {
        problems.push(
          `${path} imports ${target}: ${layer} may import ${below.join(', ') || 'no other layer'}`,
        );
      }
      if (isTest(target)) problems.push(`${path} imports the test file ${target}`);
    }
  }
  t.strictSame(problems, []);
});

t.test(
  'folders of agents/ import what the table allows, and of the sidecar only sidecar/node/',
  async (t) => {
    const problems: string[] = [];
    const files = tracked.filter((path) => path.startsWith('agents/') && path.endsWith('.ts'));
    for (const path of files.filter((path) => !isTest(path) && !path.endsWith('test-support.ts'))) {
      const layer = layerOf(path);
      for (const target of neighbours(path)) {
        const folder = layerOf(target);
        const isAllowed = target.startsWith('agents/')
          ? folder === layer || allowedAgents[layer]?.includes(folder)
          : target.startsWith('sidecar/node/');
        if (!isAllowed) problems.push(`${path} imports ${target}`);
      }
    }
    t.strictSame(problems, []);
    t.equal(findCycle(new Map(Object.entries(allowedAgents))), undefined);
  },
);

t.test('the table of layers is acyclic and names only layers', async (t) => {
  t.equal(findCycle(new Map(Object.entries(allowed))), undefined);
  for (const layer of Object.values(allowed).flat()) t.ok(layer in allowed, layer);
});

t.test('imports between the rooms of a layer go only downwards', async (t) => {
  const problems: string[] = [];
  for (const [layer, table] of Object.entries(rooms)) {
    t.equal(findCycle(new Map(Object.entries(table))), undefined, `the rooms of ${layer}/ have an order`);
    const folder = `sidecar/${layer}/`;
    /** '' for a file beside the rooms. */
    const roomOf = (path: string): string => dirname(path).slice(folder.length);
    for (const path of sidecarFiles.filter((path) => path.startsWith(folder) && !isTest(path))) {
      const room = roomOf(path);
      if (room === '') continue;
      const below = table[room];
      if (below === undefined) problems.push(`${path}: the room ${room} is not in the table of this test`);
      for (const target of neighbours(path).filter((target) => target.startsWith(folder))) {
        const other = roomOf(target);
        if (other !== room && below?.includes(other) !== true)
          problems.push(`${path} imports ${target}: ${room} may import ${below?.join(', ') || 'no room'}`);
      }
    }
  }
  t.strictSame(problems, []);
});

t.test('no source file imports itself in a circle at run time', async (t) => {
  const files = sourceFiles.filter((path) => path.endsWith('.ts'));
  const cycle = findCycle(new Map(files.map((path) => [path, neighbours(path, valueImportsOf)])));
  t.equal(cycle?.join(' → '), undefined);
});

t.test('no source file imports itself in a circle, types included', async (t) => {
  const files = sourceFiles.filter((path) => path.endsWith('.ts'));
  const imports = new Map(files.map((path) => [path, neighbours(path)]));
  const known = (path: string, target: string): boolean =>
    circles.some((folder) => path.startsWith(folder) && target.startsWith(folder));
  const others = new Map(
    [...imports].map(([path, targets]) => [path, targets.filter((target) => !known(path, target))]),
  );
  t.equal(findCycle(others)?.join(' → '), undefined);
  for (const folder of circles) {
    const inside = new Map(
      [...imports]
        .filter(([path]) => path.startsWith(folder))
        .map(([path, targets]) => [path, targets.filter((target) => target.startsWith(folder))]),
    );
    t.ok(findCycle(inside), `${folder} has a circle; without one, remove its entry from the table`);
  }
});

t.test('tests and measurements share scripts/harness/ and import nothing from each other', async (t) => {
  const apart = [
    ['test/', 'bench/'],
    ['bench/', 'test/'],
    ['scripts/harness/', 'test/'],
    ['scripts/harness/', 'bench/'],
  ] as const;
  const problems: string[] = [];
  for (const path of sourceFiles) {
    for (const [folder, other] of apart.filter(([folder]) => path.startsWith(folder))) {
      for (const target of neighbours(path).filter((target) => target.startsWith(other)))
        problems.push(
          `${path} imports ${target}: put what ${folder} and ${other} share into scripts/harness/`,
        );
    }
  }
  t.strictSame(problems, []);
});

t.test(
  'the load tool is independent of the rest of bench/, whose top has only entry points of npm scripts',
  async (t) => {
    const problems: string[] = [];
    const inLoad = (path: string): boolean => path.startsWith('bench/load/');
    const scripts = Object.values((JSON.parse(textOf('package.json')) as { scripts: object }).scripts);
    for (const path of sourceFiles.filter((path) => path.startsWith('bench/'))) {
      for (const target of neighbours(path).filter((target) => target.startsWith('bench/'))) {
        if (inLoad(path) !== inLoad(target)) problems.push(`${path} imports ${target}`);
      }
      if (dirname(path) === 'bench' && !scripts.includes(`node ${path}`))
        problems.push(`${path} is no npm script: put it into a folder`);
    }
    t.strictSame(problems, []);
  },
);

t.test('every relative import names an existing file', async (t) => {
  const problems: string[] = [];
  for (const path of sourceFiles.filter((path) => path.endsWith('.ts'))) {
    for (const target of neighbours(path)) {
      if (!existsSync(join(root, target))) problems.push(`${path} imports ${target}, which does not exist`);
    }
  }
  t.strictSame(problems, []);
});

t.test('the sidecar contains the code that the installer compiles', async (t) => {
  const parts = [...textOf('scripts/warm-cache.mjs').matchAll(/^ {2}'(\S+\.ts)',$/gm)].map(
    ([, part]) => part!,
  );
  t.ok(parts.length > 3, `${parts.length} files are named`);
  for (const part of parts) t.ok(existsSync(join(root, 'sidecar', part)), part);
});

t.test('policies are pure: no clock, no randomness, no input or output', async (t) => {
  const problems: string[] = [];
  const impure =
    /\b(Date\.now|new Date|performance\.now|process\.hrtime|Math\.random|setTimeout|setInterval|setImmediate)\b/;
  for (const path of sidecarFiles.filter((path) => layerOf(path) === 'policy' && !isTest(path))) {
    const code = textOf(path).replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '');
    const found = impure.exec(code)?.[0];
    if (found !== undefined) problems.push(`${path} uses ${found}: let it come in as an argument`);
    const outside = importsOf(code).find((name) => name.startsWith('node:'));
    if (outside !== undefined)
      problems.push(`${path} imports ${outside}: let what it does come in as an argument`);
  }
  t.strictSame(problems, []);
});

t.test('the sidecar speaks HTTP/2 by its own engine alone', async (t) => {
  // A peer's frames can end a process that reads them with Node's: its sessions assert what such frames make untrue.
  // The bus has connections of the process to itself alone (`net/socket-pair.ts`), whose frames our own engine writes.
  const toItself = /^sidecar\/bus\/(consumer|publisher)\//;
  const problems = sidecarFiles
    .filter((path) => !isTest(path) && !toItself.test(path))
    .filter((path) => valueImportsOf(textOf(path)).some((name) => /^(?:node:)?http2$|grpc-js/.test(name)));
  t.strictSame(problems, []);
});

t.test('http2/ contains no terms of gRPC, tasks, models or policies', async (t) => {
  const foreign =
    /grpc|grfc|outrigger|sidecar|\btasks?|\bagents?\b|\bmodels?\b|\bllm|polic(y|ies)|breaker|\bretr(y|ies)\b/i;
  const problems: string[] = [];
  for (const path of sidecarFiles.filter((path) => layerOf(path) === 'http2' && !isTest(path))) {
    // Two fields of RFC 7541's table are called so.
    const lines = textOf(path)
      .replace(/'(retry-after|user-agent)'/g, '')
      .split('\n');
    const at = lines.findIndex((line) => foreign.test(line));
    if (at >= 0)
      problems.push(
        `${path}:${at + 1} says ${foreign.exec(lines[at]!)?.[0]}: let the owner of the connection say it`,
      );
  }
  t.strictSame(problems, []);
});

t.test('no source file besides tests has more than 400 lines', async (t) => {
  const problems: string[] = [];
  for (const path of sourceFiles.filter((path) => !isTest(path))) {
    const lines = textOf(path).split('\n').length - 1;
    if (lines > 400 && !(path in longFiles))
      problems.push(`${path} has ${lines} lines: split it, or give the reason here`);
  }
  for (const path of Object.keys(longFiles)) {
    t.ok(
      sourceFiles.includes(path) && textOf(path).split('\n').length > 401,
      `${path} still needs its exception`,
    );
  }
  t.strictSame(problems, []);
});

t.test('the lock has versions and digests, and no addresses of a registry', async (t) => {
  const lock = JSON.parse(textOf('package-lock.json')) as { packages: Record<string, { resolved?: string }> };
  const withAddress = Object.entries(lock.packages).filter(([, entry]) => entry.resolved !== undefined);
  t.strictSame(
    withAddress.map(([path]) => path),
    [],
  );
});

t.test('no file names a path of a particular machine', async (t) => {
  const problems: string[] = [];
  // Assembled, so that this file does not find itself.
  const home = new RegExp(['/home/[a-z]', '/Users/[A-Za-z]', `/${'root'}/`, `/${'work'}/`].join('|'));
  for (const path of tracked) {
    if (/\.(png|ico|gz|bin|woff2?)$/.test(path)) continue;
    const found = home.exec(textOf(path));
    if (found !== null) problems.push(`${path} contains ${found[0]}…: use a path relative to the checkout`);
  }
  t.strictSame(problems, []);
});

/** A connection does not know whether its peer is downstream or upstream: it says peer, network or local. */
const ownShapes: ReadonlySet<string> = new Set(['TypedError', 'ConnectionError']);

t.test('errors of the sidecar have a source and say whether a retry is safe', async (t) => {
  const problems: string[] = [];
  for (const path of sidecarFiles.filter((path) => !isTest(path))) {
    for (const [, name] of textOf(path).matchAll(/class (\w+) extends Error\b/g))
      if (!ownShapes.has(name!)) problems.push(`${path}: ${name} extends Error: extend TypedError`);
  }
  t.strictSame(problems, []);
});
