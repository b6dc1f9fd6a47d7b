/** The flags that `inject` and `webhook` share: the settings of the injected sidecar. */
import { defaultInjectSettings, type InjectSettings } from '../kubernetes/inject/settings.ts';
import { outriggerVersion } from '../telemetry/version.ts';
import type { Flags, FlagTable } from './flags.ts';

export const INJECT_FLAGS = {
  image: { value: 'IMAGE', env: 'OUTRIGGER_IMAGE', help: 'The image of the sidecar' },
  'intercept-image': {
    value: 'IMAGE',
    env: 'OUTRIGGER_INTERCEPT_IMAGE',
    help: 'The image of the step that redirects traffic, for pods that ask for it',
  },
  'image-pull-policy': {
    value: 'POLICY',
    env: 'OUTRIGGER_IMAGE_PULL_POLICY',
    help: 'Always, IfNotPresent or Never; the cluster decides when absent',
  },
  'otlp-endpoint': {
    value: 'URL',
    env: 'OUTRIGGER_OTLP_ENDPOINT',
    help: 'Where sidecars send traces, http://HOST:4318; an app that names an endpoint of its own keeps it',
  },
} satisfies FlagTable;

const POLICIES = ['Always', 'IfNotPresent', 'Never'] as const;
/** The form of an image reference, loosely: the API server decides in the end. */
const IMAGE = /^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,254}$/;

/** Returns the settings, or every problem with the flags. */
export function readInjectSettings(
  flags: Flags<keyof typeof INJECT_FLAGS>,
): { settings: InjectSettings } | { problems: string[] } {
  const defaults = defaultInjectSettings(outriggerVersion());
  const problems: string[] = [];
  const [image = defaults.image] = flags.image;
  const [interceptImage = defaults.interceptImage] = flags['intercept-image'];
  for (const [flag, value] of Object.entries({ image, 'intercept-image': interceptImage })) {
    if (!IMAGE.test(value)) problems.push(`--${flag} takes the name of an image such as ${defaults.image}`);
  }
  const [policy] = flags['image-pull-policy'];
  const pullPolicy = POLICIES.find((known) => known === policy);
  if (policy !== undefined && pullPolicy === undefined)
    problems.push(`--image-pull-policy takes ${POLICIES.join(', ')}`);
  const [otlpEndpoint] = flags['otlp-endpoint'];
  if (otlpEndpoint !== undefined && !/^https?:\/\/[^\s$]+$/.test(otlpEndpoint))
    problems.push('--otlp-endpoint takes a URL such as http://collector.observability:4318');
  if (problems.length > 0) return { problems };
  return { settings: { image, interceptImage, pullPolicy, otlpEndpoint } };
}
