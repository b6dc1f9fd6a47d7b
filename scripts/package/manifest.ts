// The package.json of the published package, made from the one of the repository. The repository's says what a
// checkout needs; the package brings the command as a bundle, so of all packages it depends on the two that agents share
// with it.

/** Packages that an agent shares with `outrigger/agent`: its own copy has to be the same one. */
const SHARED = ['@grpc/grpc-js', '@grpc/proto-loader'];

/** Packages that `outrigger/agent` uses when the agent has installed them. */
const OPTIONAL_PEERS = [
  'openai',
  '@modelcontextprotocol/client',
  '@opentelemetry/api',
  '@opentelemetry/resources',
  '@opentelemetry/sdk-node',
];

type Versions = Readonly<Record<string, string>>;

/** The fields of the repository's package.json that the package's is made of. */
export interface CheckoutManifest {
  name: string;
  version: string;
  description: string;
  keywords: readonly string[];
  license: string;
  type: 'module';
  dependencies: Versions;
  optionalDependencies: Versions;
}

export function publishedManifest(checkout: CheckoutManifest): object {
  const { name, version, description, keywords, license, type, optionalDependencies, dependencies } =
    checkout;
  const ranges = (names: readonly string[]): Versions =>
    Object.fromEntries(names.map((one) => [one, `^${dependencies[one]}`]));
  return {
    name,
    version,
    description,
    keywords,
    license,
    type,
    bin: { outrigger: 'dist/bin.mjs' },
    exports: {
      './agent': { types: './dist/types/agents/runtime/serve.d.ts', default: './dist/agent/serve.mjs' },
      './package.json': './package.json',
    },
    files: ['dist', 'proto', 'CHANGELOG.md'],
    engines: { node: '>=20' },
    dependencies: ranges(SHARED),
    peerDependencies: ranges(OPTIONAL_PEERS),
    peerDependenciesMeta: Object.fromEntries(OPTIONAL_PEERS.map((one) => [one, { optional: true }])),
    optionalDependencies,
  };
}
