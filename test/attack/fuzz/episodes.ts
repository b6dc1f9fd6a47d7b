// One episode of the fuzzer: a hostile conversation of about a second, which its seed decides whole.
import type { Dice } from './dice.ts';
import { callHostileEndpoint } from './endpoint-caller.ts';
import { talkToGrpcListener } from './grpc-caller.ts';
import { talkToHttpListener } from './http-caller.ts';
import { EGRESS, GATEWAY, PAGES, WEBHOOK } from './http-requests.ts';
import type { Lingering } from './sockets.ts';
import { AUTHORITIES, type FuzzedSystem } from './system.ts';

export interface Stage {
  readonly system: FuzzedSystem;
  /** Connections that an episode leaves open behind it. */
  readonly lingering: Lingering;
}

export interface Episode {
  readonly name: string;
  readonly run: (dice: Dice, stage: Stage) => Promise<void>;
}

const EPISODES: readonly (readonly [weight: number, episode: Episode])[] = [
  [
    8,
    {
      name: 'inbound',
      run: (dice, { system, lingering }) =>
        talkToGrpcListener(dice, system.scene.sidecar.inboundPort, lingering),
    },
  ],
  [
    4,
    {
      name: 'outbound',
      run: (dice, { system, lingering }) =>
        talkToGrpcListener(dice, system.scene.sidecar.outboundPort, lingering),
    },
  ],
  [
    6,
    {
      name: 'upstream',
      run: (dice, { system }) =>
        callHostileEndpoint(dice, system.scene.sidecar.outboundPort, dice.pick(AUTHORITIES)),
    },
  ],
  [
    6,
    {
      name: 'egress',
      run: (dice, { system, lingering }) =>
        talkToHttpListener(dice, system.scene.sidecar.llmPort, EGRESS, lingering),
    },
  ],
  [
    2,
    {
      name: 'egress over HTTP/2',
      run: (dice, { system, lingering }) =>
        talkToGrpcListener(dice, system.scene.sidecar.llmPort, lingering, '/v1/chat/completions'),
    },
  ],
  [
    3,
    {
      name: 'gateway',
      run: (dice, { system, lingering }) => talkToHttpListener(dice, system.gatewayPort, GATEWAY, lingering),
    },
  ],
  [
    3,
    {
      name: 'webhook',
      run: (dice, { system, lingering }) =>
        talkToHttpListener(dice, system.webhookPort, WEBHOOK, lingering, { tls: true }),
    },
  ],
  [
    1,
    {
      name: 'pages',
      run: (dice, { system, lingering }) => {
        const { healthPort, metricsPort } = system.scene.sidecar;
        return talkToHttpListener(dice, dice.pick([healthPort, metricsPort]), PAGES, lingering);
      },
    },
  ],
];

export const EPISODE_NAMES: readonly string[] = EPISODES.map(([, { name }]) => name);

/**
 * The first choice of an episode's dice: what it attacks.
 *
 * @param only the name of an episode that takes the place of all others
 */
export function episodeOf(dice: Dice, only?: string): Episode {
  const chosen = dice.weighted(EPISODES);
  return EPISODES.find(([, { name }]) => name === only)?.[1] ?? chosen;
}
