// The chart with a real helm: it takes an installation by kustomize over, upgrades it, rolls it back and removes it, while
// a webhook with the rights of the chart's service account answers; and it stands beside another release.
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { freePort } from '../../scripts/harness/free-port.ts';
import { runProcess } from '../../scripts/harness/process.ts';
import { requireTool, skipWithout } from '../../scripts/harness/tool.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { EARLIER, earlierRelease, skipWithoutEarlier } from '../support/earlier-release.ts';
import { apply, get, type KubernetesObject, kubectl, tryKubectl } from './kubectl.ts';
import { createsPodsUntil, pod, sidecarsOf } from './objects.ts';
import { pointHere, runWebhook, system, urlOf, writeKubeconfig } from './webhook.ts';

const chart = join(import.meta.dirname, '..', '..', 'k8s', 'helm', 'outrigger');
const elsewhere = 'outrigger-test-helm';
/** What the tests make with helm; the suite deletes them. */
export const helmNamespaces = [elsewhere];

const injected = (found: KubernetesObject | undefined) =>
  found !== undefined && sidecarsOf(found).length === 1;
const withoutSidecar = (found: KubernetesObject | undefined) =>
  found !== undefined && sidecarsOf(found).length === 0;

interface Stored {
  readonly bundles: readonly string[];
  readonly policies: readonly string[];
  readonly certificate: Readonly<Record<string, string>> | undefined;
}

/** What the webhook has written, and what helm has. */
async function stored(name = 'outrigger', namespace = system): Promise<Stored> {
  const { webhooks } = await get('mutatingwebhookconfiguration', name);
  const prefix = name === 'outrigger' ? '' : `${name.replace('-outrigger', '')}-`;
  const { data } = await get('secret', `${prefix}outrigger-webhook-certificate`, '-n', namespace);
  return {
    bundles: webhooks.map(({ clientConfig }: KubernetesObject) => clientConfig.caBundle ?? ''),
    policies: webhooks.map(({ failurePolicy }: KubernetesObject) => failurePolicy),
    certificate: data,
  };
}

export function testHelm(
  folder: string,
  labelled: string,
  build: (overlay: string) => Promise<string>,
): void {
  const creates = (what: string, name: string, isRight: (found: KubernetesObject | undefined) => boolean) =>
    createsPodsUntil(labelled, what, name, isRight);
  const helm = (t: Test, port: number, ...args: string[]) => {
    // The webhook is a process here: the API server is given its address in place of the Service.
    const renderer = join(folder, 'post-renderer');
    const change = `s|service: {.* path: /mutate.*}|url: "${urlOf(port)}"|`;
    writeFileSync(renderer, `#!/bin/sh\nexec sed '${change}'\n`);
    chmodSync(renderer, 0o755);
    const rendered = /^(install|upgrade)$/.test(args[0]!) ? ['--post-renderer', renderer] : [];
    const env = { HOME: folder, HELM_DRIVER: 'secret' };
    return runProcess(t, requireTool('helm'), [...args, ...rendered], { env, limitMs: 120_000 });
  };
  const skip = skipWithout('helm');

  t.test('helm takes over from kustomize, upgrades, rolls back and uninstalls', { skip }, async (t) => {
    const port = await freePort();
    const run = (...args: string[]) => helm(t, port, ...args, '--namespace', system);
    t.match(await apply(await build('webhook')), { code: 0 });
    await pointHere(port);
    const kubeconfig = join(folder, 'helm.kubeconfig');
    await writeKubeconfig(kubeconfig, 'outrigger-webhook', system);
    const args = ['webhook', `--secret=${system}/outrigger-webhook-certificate`, '--configuration=outrigger'];
    if (skipWithoutEarlier() === false) {
      const old = await runWebhook(args, port, kubeconfig, earlierRelease(t));
      await creates(`pods are injected by ${EARLIER}`, 'earlier', injected);
      t.match(await apply(pod('of-earlier', labelled)), { code: 0 });
      t.equal(await old.stop(20_000), 0);
    } else t.comment(skipWithoutEarlier());
    const before = await stored().catch(() => undefined);
    const webhook = await runWebhook(args, port, kubeconfig);
    const first = await stored();
    if (before?.certificate !== undefined)
      t.strictSame(first, before, `it goes on with the certificate of ${EARLIER}`);
    await creates('pods are injected', 'kustomize', injected);

    const refused = await run('install', 'outrigger', chart);
    t.match(refused.output, /invalid ownership metadata/);
    const taken = await run('install', 'outrigger', chart, '--take-ownership');
    t.equal(taken.code, 0, taken.code === 0 ? 'it succeeds' : taken.output);
    t.match(taken.output, /rollout status deployment\/outrigger-webhook/, 'it says what comes next');
    t.strictSame(await stored(), first, 'the bundle and the certificate are those of before');
    await creates('pods are injected', 'taken', injected);

    const closed = await run(
      'upgrade',
      'outrigger',
      chart,
      '--set',
      'failurePolicy=Fail',
      '--set',
      'replicas=3',
    );
    t.equal(closed.code, 0, closed.code === 0 ? 'it succeeds' : closed.output);
    t.match(closed.output, /failurePolicy is Fail/);
    t.strictSame(await stored(), { ...first, policies: ['Fail', 'Fail'] });
    const { spec } = await get('deployment', 'outrigger-webhook', '-n', system);
    t.equal(spec.replicas, 3);
    await creates('pods are injected', 'upgraded', injected);

    // The certificate changes between two revisions.
    const empty = JSON.stringify([{ op: 'remove', path: '/data' }]);
    await kubectl([
      'patch',
      'secret',
      'outrigger-webhook-certificate',
      '-n',
      system,
      '--type=json',
      `-p=${empty}`,
    ]);
    const second = await waitUntil('there is another certificate', async () => {
      const now = await stored();
      const isOne =
        now.certificate !== undefined && now.bundles.every((each) => each === now.certificate!['ca.crt']);
      return isOne && now.bundles[0] !== first.bundles[0] ? now : undefined;
    });
    t.match(await run('rollback', 'outrigger', '1'), { code: 0 });
    t.strictSame(await stored(), { ...second, policies: ['Ignore', 'Ignore'] }, 'the newest bundle stays');
    await creates('pods are injected', 'back', injected);

    const forced = await run('upgrade', 'outrigger', chart, '--force', '--set', 'failurePolicy=Fail');
    t.equal(forced.code, 0, forced.code === 0 ? 'it succeeds' : forced.output);
    await waitUntil('the webhook has restored what --force has emptied', async () => {
      const { bundles, certificate } = await stored();
      return certificate !== undefined && bundles.every((each) => each === certificate['ca.crt']);
    });
    await creates('pods are injected', 'forced', injected);

    t.equal(await webhook.stop(20_000), 0);
    await creates('pods are refused', 'closed', (found) => found === undefined);
    t.match(await run('uninstall', 'outrigger'), { code: 0 });
    t.match(await apply(pod('after', labelled)), { code: 0 }, 'no configuration refuses pods');
    t.ok(withoutSidecar(await get('pod', 'after', '-n', labelled)));
    t.strictSame(await leftOf('outrigger', system), []);
    if (before !== undefined)
      t.ok(injected(await get('pod', 'of-earlier', '-n', labelled)), 'pods stay as they are');
  });

  t.test('helm installs another release into another namespace', { skip }, async (t) => {
    const port = await freePort();
    const run = (...args: string[]) => helm(t, port, ...args, '--namespace', elsewhere);
    const set = ['observability.enabled=true', 'observability.namespace=observability', 'replicas=1'];
    await kubectl(['delete', 'namespace', 'observability', '--ignore-not-found', '--timeout=60s']);
    const made = await run(
      'install',
      'blue',
      chart,
      '--create-namespace',
      ...set.flatMap((each) => ['--set', each]),
    );
    t.equal(made.code, 0, made.code === 0 ? 'it succeeds' : made.output);
    t.match(made.output, /port-forward service\/grafana/);
    const { items } = await get('statefulsets,deployments', '-n', 'observability');
    t.strictSame(items.map(({ metadata }: KubernetesObject) => metadata.name).sort(), [
      'grafana',
      'otel-collector',
      'prometheus',
      'tempo',
    ]);

    const kubeconfig = join(folder, 'blue.kubeconfig');
    await writeKubeconfig(kubeconfig, 'blue-outrigger-webhook', elsewhere);
    const { spec } = await get('deployment', 'blue-outrigger-webhook', '-n', elsewhere);
    const webhook = await runWebhook(spec.template.spec.containers[0].args, port, kubeconfig);
    await creates('pods are injected', 'blue', injected);
    const { bundles, certificate } = await stored('blue-outrigger', elsewhere);
    t.strictSame(bundles, [certificate!['ca.crt'], certificate!['ca.crt']]);
    await kubectl(['label', 'namespace', elsewhere, 'outrigger.dev/inject=true']);
    t.match(await apply(pod('own', elsewhere)), { code: 0 });
    t.ok(withoutSidecar(await get('pod', 'own', '-n', elsewhere)), 'not in its own namespace');

    t.equal(await webhook.stop(20_000), 0);
    t.match(await run('uninstall', 'blue'), { code: 0 });
    t.strictSame(await leftOf('blue', elsewhere), []);
    const kept = await tryKubectl(['get', 'namespace', 'observability']);
    t.equal(kept.code, 0, 'the namespace with the volumes stays');
  });
}

/** The objects of a release that are still there. */
async function leftOf(release: string, namespace: string): Promise<string[]> {
  const kinds =
    'mutatingwebhookconfigurations,clusterroles,clusterrolebindings,deployments,services,secrets,roles,rolebindings,serviceaccounts,networkpolicies,poddisruptionbudgets';
  const { items } = await get(kinds, '-n', namespace, '-l', `app.kubernetes.io/instance=${release}`);
  return items
    .filter(({ metadata }: KubernetesObject) => metadata.deletionTimestamp === undefined)
    .map(({ kind, metadata }: KubernetesObject) => `${kind} ${metadata.name}`);
}
