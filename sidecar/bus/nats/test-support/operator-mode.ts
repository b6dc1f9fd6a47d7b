// Keys and tokens of a NATS server in operator mode, made as `nsc` makes them: the server trusts an operator, the operator an
// account, and the account its users, each of whom has a `.creds` file.
import { nkeys } from '@nats-io/transport-node';

type KeyPair = ReturnType<typeof nkeys.createUser>;

interface Rules {
  readonly publish: readonly string[];
  readonly subscribe: readonly string[];
}

const NO_LIMITS = {
  ...{ subs: -1, data: -1, payload: -1, imports: -1, exports: -1, conn: -1, leaf: -1, wildcards: true },
  ...{ mem_storage: -1, disk_storage: -1, streams: -1, consumer: -1 },
};

/** A token that says something of `subject`, signed by `issuer`. */
function signed(issuer: KeyPair, subject: KeyPair, name: string, nats: object): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const claims = {
    jti: name,
    iat: Math.floor(Date.now() / 1_000),
    iss: issuer.getPublicKey(),
    sub: subject.getPublicKey(),
    name,
    nats: { ...nats, version: 2 },
  };
  const text = `${part({ typ: 'JWT', alg: 'ed25519-nkey' })}.${part(claims)}`;
  return `${text}.${Buffer.from(issuer.sign(Buffer.from(text))).toString('base64url')}`;
}

export interface OperatorMode {
  /** For the configuration of the server. */
  readonly config: string;
  /** The content of a `.creds` file; without rules the user may do everything. */
  creds(name: string, rules?: Rules): string;
}

export function operatorMode(): OperatorMode {
  const operator = nkeys.createOperator();
  const [account, system] = [nkeys.createAccount(), nkeys.createAccount()];
  const accounts = [
    [account, signed(operator, account, 'agents', { type: 'account', limits: NO_LIMITS })],
    [
      system,
      signed(operator, system, 'SYS', {
        type: 'account',
        limits: { ...NO_LIMITS, mem_storage: 0, disk_storage: 0 },
      }),
    ],
  ] as const;
  const preload = accounts.map(([pair, token]) => `${pair.getPublicKey()}: ${token}`).join('\n');
  return {
    config: [
      `operator: ${signed(operator, operator, 'operator', { type: 'operator' })}`,
      `system_account: ${system.getPublicKey()}`,
      `resolver: MEMORY\nresolver_preload: {\n${preload}\n}`,
    ].join('\n'),
    creds(name, rules) {
      const user = nkeys.createUser();
      const [pub, sub] = [{ allow: rules?.publish ?? ['>'] }, { allow: rules?.subscribe ?? ['>'] }];
      const limits = { subs: -1, data: -1, payload: -1 };
      const token = signed(account, user, name, { type: 'user', pub, sub, ...limits });
      const seed = Buffer.from(user.getSeed()).toString();
      return `-----BEGIN NATS USER JWT-----\n${token}\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n${seed}\n------END USER NKEY SEED------\n`;
    },
  };
}
