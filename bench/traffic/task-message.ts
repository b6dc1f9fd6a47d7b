// The task that each call sends: `agent.TaskRequest` behind gRPC's prefix, with an id of its own.

const ID_DIGITS = 16;
/** Behind gRPC's five bytes, the field's tag and its length. */
const ID_AT = 7;
/** Field 6, a varint. */
const MAX_TOKENS_TAG = (6 << 3) | 0;
const ZERO = 0x30;
const NINE = 0x39;

/** The first half of an id tells processes apart, the second half calls. */
const processDigits = `${Math.floor(Math.random() * 1e8)}`.padStart(ID_DIGITS / 2, '0');

/** A framed task; unless it has no id, `nextId` overwrites that for each call. */
export function taskMessage(inputBytes: number, maxTokens = 0, withoutId = false): Buffer {
  const message = Buffer.concat([
    ...(withoutId ? [] : [text(1, `${processDigits}${'0'.repeat(ID_DIGITS / 2)}`)]),
    text(3, 'research'),
    text(4, 'y'.repeat(inputBytes)),
    ...(maxTokens > 0 ? [Buffer.from([MAX_TOKENS_TAG, ...varint(maxTokens)])] : []),
  ]);
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}

/** Counts the id up in place, as one counts on paper. All connections of a process share one message. */
export function nextId(message: Buffer): void {
  let at = ID_AT + ID_DIGITS - 1;
  while (message[at] === NINE) message[at--] = ZERO;
  message[at]!++;
}

function text(field: number, value: string): Buffer {
  return Buffer.concat([Buffer.from([(field << 3) | 2, ...varint(value.length)]), Buffer.from(value)]);
}

function varint(value: number): number[] {
  const bytes = [];
  let rest = value;
  for (; rest >= 0x80; rest >>>= 7) bytes.push((rest & 0x7f) | 0x80);
  return [...bytes, rest];
}

/** `max_tokens` of a framed task, 0 when it has none. */
export function maxTokensOf(framed: Buffer): number {
  let at = 5;
  const readVarint = (): number => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = framed[at++]!;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
  };
  while (at < framed.length) {
    const tag = readVarint();
    const value = readVarint();
    if (tag === MAX_TOKENS_TAG) return value;
    // All other fields of these tasks are strings.
    at += value;
  }
  return 0;
}
