// The schemas that the resources of Istio, of the Gateway, of cert-manager and of KEDA are checked against, and KEDA's own proto: files of
// Go modules, by their digests.
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { extname, join } from 'node:path';
import { run } from './command.mjs';
import { findGo } from './go.mjs';
import { toolsDir } from './paths.mjs';

const files = {
  'istio-crds': {
    module: 'istio.io/api@v1.31.0-rc.0.0.20260824154656-b943409680a7',
    path: 'kubernetes/customresourcedefinitions.gen.yaml',
    sha256: 'c0ad59e008658765412badb836e73a523a355e3d792a32ad3c0711a728be5aff',
  },
  'gateway-crds': {
    module: 'sigs.k8s.io/gateway-api@v1.6.0',
    path: 'config/crd/standard/gateway.networking.k8s.io_gateways.yaml',
    sha256: '7dcaf56db92b197207bc149f049c1be0208bedc8608a56905900d3bfc71b8632',
  },
  'certificate-crds': {
    module: 'github.com/cert-manager/cert-manager@v1.21.2',
    path: 'deploy/crds/cert-manager.io_certificates.yaml',
    sha256: '7ad91029c00ec959d54215b19d3b1a9b7e0247eaa60f987151c2b70d8661f8af',
  },
  'issuer-crds': {
    module: 'github.com/cert-manager/cert-manager@v1.21.2',
    path: 'deploy/crds/cert-manager.io_issuers.yaml',
    sha256: '05e37efb02777e0362d24269fa103c2fc11419f9c85e31854ef873e5d9e5c5cc',
  },
  'scaled-object-crds': {
    module: 'github.com/kedacore/keda/v2@v2.21.0',
    path: 'config/crd/bases/keda.sh_scaledobjects.yaml',
    sha256: 'af35555862a83933b074af14ad439c4b4ceabaf4daa3e9338e9b23e36d308d80',
  },
  'trigger-authentication-crds': {
    module: 'github.com/kedacore/keda/v2@v2.21.0',
    path: 'config/crd/bases/keda.sh_triggerauthentications.yaml',
    sha256: 'ed59ab37b2fa9a18119484a3dbd849b0b18ed25e1aea91d9f1305d4da2215bd8',
  },
  'keda-proto': {
    module: 'github.com/kedacore/keda/v2@v2.21.0',
    path: 'pkg/scalers/externalscaler/externalscaler.proto',
    sha256: '0e1c84a7ee1d4745eefe1fd7d16e2cbbd02763dc0cfc4c4c37d92d026deb9253',
  },
};
const limitMs = 3 * 60_000;

export async function installIstioSchemas(record, wants) {
  if (!wants.tests) return;
  for (const [name, file] of Object.entries(files)) {
    const path = join(toolsDir, `${name}-${file.sha256.slice(0, 12)}${extname(file.path)}`);
    try {
      if (!existsSync(path)) await fetchFile(file, path);
      record.has(name, path);
    } catch (error) {
      record.lacks(name, error.message);
    }
  }
}

async function fetchFile({ module, path, sha256 }, target) {
  console.log(`outrigger: fetching ${module} …`);
  mkdirSync(toolsDir, { recursive: true });
  const env = { GOFLAGS: '-mod=mod', GOTOOLCHAIN: 'local', GOWORK: 'off' };
  // Outside any module, so that no go.mod has to name modules that we only read.
  const output = await run(await findGo(), ['mod', 'download', '-json', module], {
    cwd: toolsDir,
    limitMs,
    env,
  });
  const { Dir: folder } = JSON.parse(output.slice(output.indexOf('{')));
  const bytes = readFileSync(join(folder, path));
  const found = createHash('sha256').update(bytes).digest('hex');
  if (found !== sha256) throw new Error(`${path} of ${module} has the digest ${found} instead of ${sha256}`);
  writeFileSync(`${target}.new`, bytes);
  renameSync(`${target}.new`, target);
}
