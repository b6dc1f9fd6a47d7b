/** `outrigger istio`: writes the configuration as Istio's resources. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { EXIT, print, printError, refuse } from './command.ts';
import { configure } from './configure.ts';
import { type FlagTable, readFlags, splitFlags } from './flags.ts';
import { CONFIG_FLAGS, type HelpPage, helps, SETTINGS_NOTE } from './help.ts';

const FLAGS = {
  namespace: {
    value: 'NAME',
    help: "The namespace of the agents; default: the configuration's outbound.namespace, or default",
  },
  caller: {
    value: 'NAME',
    many: true,
    help: 'A service account that calls agents and is none: gateway, or NAMESPACE/NAME',
  },
  'trust-domain': { value: 'NAME', help: "The mesh's trust domain; default: cluster.local" },
  directory: {
    value: 'DIR',
    help: 'Write a file for each agent, and a kustomization, instead of all to standard output',
  },
} satisfies FlagTable;

const HELP: HelpPage = {
  usage: ['istio [--config FILE] [--namespace NAME] [--caller NAME …] [--directory DIR]'],
  about: `Writes the Istio resources that say the same as the configuration, with comments on what Istio can't say. ${SETTINGS_NOTE}`,
  flags: { ...FLAGS, ...CONFIG_FLAGS },
  more: 'docs/istio.md compares the two.',
};

const LABEL = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
const CALLER = /^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\/)?[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/;
const TRUST_DOMAIN = /^[a-z0-9._-]{1,255}$/;

export async function istio(args: readonly string[]): Promise<number> {
  if (helps(args, HELP)) return EXIT.OK;
  const { own, rest } = splitFlags(args, FLAGS);
  const read = readFlags(own, FLAGS, {});
  if ('problems' in read) return refuse('istio', read.problems);
  const [given] = read.flags.namespace;
  const [trustDomain = 'cluster.local'] = read.flags['trust-domain'];
  const callers = read.flags.caller;
  const problems = [
    ...(given === undefined || LABEL.test(given)
      ? []
      : [`--namespace ${shown(given)}: write the name of a namespace, such as agents`]),
    ...(TRUST_DOMAIN.test(trustDomain)
      ? []
      : [`--trust-domain ${shown(trustDomain)}: write a name such as cluster.local`]),
    ...callers
      .filter((caller) => !CALLER.test(caller))
      .map((caller) => `--caller ${shown(caller)}: write a service account, as NAME or NAMESPACE/NAME`),
  ];
  if (problems.length > 0) return refuse('istio', problems);
  const configured = await configure(rest);
  if ('exitCode' in configured) return configured.exitCode;
  const { istioSets } = await import('../kubernetes/istio/sets.ts');
  const { writeKustomization, writeSet, writeSets } = await import('../kubernetes/istio/write.ts');
  const config = configured.source.current;
  const namespace = given ?? (config.outbound.namespace || 'default');
  const sets = istioSets(config, { namespace, callers, trustDomain });
  const [directory] = read.flags.directory;
  if (directory === undefined) {
    print(writeSets(sets));
    return EXIT.OK;
  }
  const files = [
    ...sets.map((set) => [`${set.name}.yaml`, writeSet(set)] as const),
    ['kustomization.yaml', writeKustomization(sets)] as const,
  ];
  try {
    mkdirSync(directory, { recursive: true });
    for (const [name, text] of files) writeFileSync(join(directory, name), text);
  } catch (error) {
    const { code, path } = error as NodeJS.ErrnoException;
    return refuse('istio', [`${path ?? directory} can't be written (${code}); check --directory`]);
  }
  printError(files.map(([name]) => join(directory, name)).join('\n'));
  return EXIT.OK;
}

function shown(text: string): string {
  return JSON.stringify(text.slice(0, 60));
}
