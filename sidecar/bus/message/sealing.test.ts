// Payloads are sealed with the first key of a file and opened with any of them; nothing else opens or changes them.
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import fc from '../../../scripts/harness/properties.ts';
import { LogSetupError } from '../log/log-errors.ts';
import { openKeyFile, readKeys } from './key-file.ts';
import { UNSEALED } from './sealer.ts';
import { KeySealer } from './sealing.ts';

const key = (): Buffer => randomBytes(32);
const sealer = (keys: readonly Buffer[], acceptsPlain = false): KeySealer =>
  new KeySealer({ keys, acceptsPlain });

t.test('what is sealed is opened by every sidecar that has the key, first or not', async (t) => {
  const [old, latest] = [key(), key()];
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 5_000 }), (bytes) => {
      const payload = Buffer.from(bytes);
      const before = sealer([old]).seal(payload);
      const after = sealer([latest, old]).seal(payload);
      return (
        sealer([latest, old]).open(before).equals(payload) &&
        sealer([latest]).open(after).equals(payload) &&
        sealer([latest, old]).open(after).equals(payload)
      );
    }),
  );
  const payload = Buffer.from('a secret that the log must not see');
  const sealed = sealer([latest]).seal(payload);
  t.notOk(sealed.includes('secret'));
  t.notOk(sealer([latest]).seal(payload).equals(sealed), 'equal payloads do not look equal');
});

t.test(
  'a payload that was changed, is not sealed, or needs another key is refused, with what to do',
  async (t) => {
    const ours = sealer([key()]);
    const sealed = ours.seal(Buffer.from('payload'));
    for (let at = 0; at < sealed.length; at++) {
      const changed = Buffer.from(sealed);
      changed[at]! ^= 1;
      t.throws(() => ours.open(changed), LogSetupError, `byte ${at}`);
    }
    t.throws(() => ours.open(sealed.subarray(0, 20)), LogSetupError);
    t.throws(
      () => sealer([key()]).open(sealed),
      /does not have: give this sidecar the file that the others have/,
    );
    t.throws(() => ours.open(Buffer.from('payload')), /is not sealed/);
    t.equal(String(sealer([key()], true).open(Buffer.from('payload'))), 'payload');
  },
);

t.test('a large payload is opened in pieces, and none of it before it is proved', async (t) => {
  const ours = sealer([key()]);
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 200_000 }),
      fc.array(fc.integer({ min: 1, max: 90_000 }), { minLength: 1, maxLength: 5 }),
      (length, sizes) => {
        const payload = Buffer.alloc(length, 'a large payload ');
        const sealed = ours.seal(payload);
        const opener = ours.opener();
        const opened: Buffer[] = [];
        for (let at = 0, i = 0; at < sealed.length; i++) {
          const size = sizes[i % sizes.length]!;
          opened.push(opener.add(sealed.subarray(at, at + size)));
          at += size;
        }
        return Buffer.concat([...opened, opener.end()]).equals(payload) && ours.open(sealed).equals(payload);
      },
    ),
    { numRuns: 30 },
  );
  const sealed = ours.seal(Buffer.alloc(150_000, 'x'));
  const [head, segment] = [28, 65_536 + 16];
  t.throws(() => ours.open(sealed.subarray(0, head + segment)), /was changed/, 'cut behind a segment');
  const [one, two] = [
    sealed.subarray(head, head + segment),
    sealed.subarray(head + segment, head + 2 * segment),
  ];
  const swapped = Buffer.concat([sealed.subarray(0, head), two, one, sealed.subarray(head + 2 * segment)]);
  t.throws(() => ours.open(swapped), /was changed/, 'segments in another order');
  const changed = Buffer.from(sealed);
  changed[head + segment + 5]! ^= 1;
  const opener = ours.opener();
  t.equal(opener.add(changed.subarray(0, head + segment + 1)).length, 65_536);
  t.throws(() => opener.add(changed.subarray(head + segment + 1)), /was changed/);
  const plain = UNSEALED.opener();
  t.equal(String(plain.add(Buffer.from('plain'))) + String(plain.end()), 'plain');
  t.throws(() => UNSEALED.opener().add(sealed), /is sealed, and bus.encrypt_key_file is not set/);
});

t.test('a key file has a key a line, belongs to its owner, and errors name no key', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-keys-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, 'keys');
  const [first, second] = [key(), key()];
  writeFileSync(path, `# of today\n${first.toString('base64')}\n\n${second.toString('base64')}\r\nplain\n`, {
    mode: 0o600,
  });
  const opened = openKeyFile(path);
  t.equal(String(sealer([first]).open(opened.seal(Buffer.from('x')))), 'x');
  t.equal(String(opened.open(sealer([second]).seal(Buffer.from('y')))), 'y');
  t.equal(String(opened.open(Buffer.from('z'))), 'z');
  chmodSync(path, 0o640);
  openKeyFile(path);
  for (const mode of [0o644, 0o604, 0o620, 0o602]) {
    chmodSync(path, mode);
    t.throws(() => openKeyFile(path), /make it 0600/, mode.toString(8));
  }
  t.throws(() => openKeyFile(join(folder, 'none')), /can't be read: ENOENT/);
  t.throws(() => readKeys('plain\n', 'keys'), /has no key/);
  const short = randomBytes(16).toString('base64');
  try {
    readKeys(`${first.toString('base64')}\n${short}`, 'keys');
    t.fail('a short key was taken');
  } catch (error) {
    t.match(String(error), 'line 2 of keys is no key of 32 bytes');
    t.notMatch(String(error), short);
  }
});
