// Both proxies in one pod, or only one of them: what Istio's own injector makes of pods that Outrigger has injected.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { parse, parseAllDocuments, stringify } from 'yaml';
import { runProcess } from '../../scripts/harness/process.ts';
import type { KubernetesObject } from '../cluster/kubectl.ts';

const root = join(import.meta.dirname, '..', '..');

/** The annotations that docs/istio.md gives for it. */
function documentedAnnotations(markdown: string): Record<string, string> {
  const [, sample = ''] =
    /```yaml\n(metadata:\n {2}annotations:\n {4}outrigger\.dev\/port-offset[\s\S]*?)```/.exec(markdown) ?? [];
  return parse(sample).metadata.annotations;
}

/** `istioctl kube-inject`, with the templates of its own release, asks for an API: KUBECONFIG must name one. */
export function testOnePod(istioctl: string, folder: string, markdown: string, skip: string | false): void {
  const injectorOf = async (t: Test): Promise<(object: KubernetesObject) => Promise<KubernetesObject>> => {
    const { code, output } = await runProcess(t, istioctl, ['manifest', 'generate']);
    t.equal(code, 0);
    const maps = parseAllDocuments(output)
      .map((document) => document.toJS() as KubernetesObject)
      .filter((object) => object?.kind === 'ConfigMap');
    const dataOf = (name: string) => maps.find(({ metadata }) => metadata.name === name).data;
    const { config, values } = dataOf('istio-sidecar-injector');
    const files = { injectConfigFile: config, valuesFile: values, meshConfigFile: dataOf('istio').mesh };
    const flags = Object.entries(files).map(([flag, text]) => {
      writeFileSync(join(folder, flag), text);
      return `--${flag}=${join(folder, flag)}`;
    });
    return async (object) => {
      const file = join(folder, 'pod.yaml');
      writeFileSync(file, stringify(object));
      const command = [istioctl, 'kube-inject', '-f', file, ...flags];
      const found = await runProcess(t, 'sh', ['-c', 'exec "$@" 2>/dev/null', 'sh', ...command]);
      t.equal(found.code, 0, found.output);
      return parseAllDocuments(found.output)[0]!.toJS();
    };
  };
  const withOutrigger = async (t: Test, annotations: Record<string, string>): Promise<KubernetesObject> => {
    const container = {
      name: 'agent',
      image: 'agent:1',
      ports: [{ name: 'grpc', containerPort: 50051 }],
      readinessProbe: { grpc: { port: 50051 } },
    };
    const labels = { app: 'research-agent' };
    const deployment = {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { name: 'research-agent', namespace: 'agents' },
      spec: {
        selector: { matchLabels: labels },
        template: { metadata: { labels, annotations }, spec: { containers: [container] } },
      },
    };
    const file = join(folder, 'deployment.yaml');
    writeFileSync(file, stringify(deployment));
    const command = [process.execPath, join(root, 'sidecar/main.ts'), 'inject', '-f', file];
    const { code, output } = await runProcess(t, 'sh', ['-c', 'exec "$@" 2>/dev/null', 'sh', ...command]);
    t.equal(code, 0);
    return parse(output);
  };
  const namesOf = ({ spec }: KubernetesObject): string[] =>
    [...spec.template.spec.initContainers, ...spec.template.spec.containers].map(
      ({ name }: KubernetesObject) => name,
    );

  t.test("Istio's injector does not change pods with Outrigger's sidecar", { skip }, async (t) => {
    const inject = await injectorOf(t);
    const pod = await withOutrigger(t, {});
    t.strictSame(namesOf(await inject(pod)), ['outrigger', 'agent']);
    const { labels } = pod.spec.template.metadata;
    pod.spec.template.metadata.labels = { app: labels.app };
    t.ok(namesOf(await inject(pod)).includes('istio-proxy'), 'it is the labels that keep it away');
  });

  t.test(
    "with an offset the pod has both proxies, and Outrigger's probes use its own ports",
    { skip },
    async (t) => {
      const inject = await injectorOf(t);
      const both = await inject(await withOutrigger(t, documentedAnnotations(markdown)));
      t.ok(['outrigger', 'istio-proxy', 'agent'].every((name) => namesOf(both).includes(name)));
      const { initContainers, containers } = both.spec.template.spec;
      const named = (name: string): KubernetesObject =>
        [...initContainers, ...containers].find((each: KubernetesObject) => each.name === name);
      const ports = (name: string): number[] =>
        (named(name).ports ?? []).map(({ containerPort }: KubernetesObject) => containerPort);
      t.strictSame(ports('outrigger'), [16006, 16020, 16021]);
      t.notOk(ports('istio-proxy').some((port) => ports('outrigger').includes(port)));
      // Istio would have the kubelet ask its own agent, which starts behind Outrigger's startup probe: neither would start.
      for (const name of ['startupProbe', 'readinessProbe', 'livenessProbe'])
        t.equal(named('outrigger')[name].httpGet.port, 16021, name);
      t.equal(named('agent').readinessProbe.grpc.port, 16006);
      const redirect = JSON.stringify(named('istio-init')?.args ?? []);
      for (const port of ['16006', '16020', '16021'])
        t.match(redirect, port, 'connections to it pass by Envoy');
    },
  );
}
