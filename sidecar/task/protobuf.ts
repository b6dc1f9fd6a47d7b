/**
 * The part of protobuf's wire format that a sidecar needs (protobuf.dev, "Encoding"): it finds a few fields of a message
 * without decoding the rest, and writes messages of two or three fields. The agents use protobufjs; this runs on the data
 * path, on untrusted bytes.
 */

export const WireType = { VARINT: 0, FIXED64: 1, BYTES: 2, FIXED32: 5 } as const;

/** Iterates over the fields of one message in place. Malformed input ends the iteration with `malformed` set. */
export class FieldReader {
  private buffer: Buffer;
  private at: number;
  private end: number;
  malformed = false;
  field = 0;
  wireType = 0;
  /** A varint's value, exact to 2^53, which is enough for the fields read here. */
  varint = 0;
  /** The range of a BYTES field's value. */
  valueStart = 0;
  valueEnd = 0;

  constructor(buffer: Buffer, start: number, end: number) {
    this.buffer = buffer;
    this.at = start;
    this.end = end;
  }

  /** Begins with another message. A reader that is used again saves each call an object. */
  open(buffer: Buffer, start: number, end: number): void {
    this.buffer = buffer;
    this.at = start;
    this.end = end;
    this.malformed = false;
  }

  /** Moves to the next field; false at the end and on malformed input. */
  next(): boolean {
    if (this.at >= this.end) return false;
    const tag = this.readVarint();
    if (this.malformed) return false;
    this.field = Math.floor(tag / 8);
    this.wireType = tag % 8;
    if (this.field === 0) return this.fail();
    switch (this.wireType) {
      case WireType.VARINT:
        this.varint = this.readVarint();
        return !this.malformed;
      case WireType.FIXED64:
        return this.skip(8);
      case WireType.FIXED32:
        return this.skip(4);
      case WireType.BYTES: {
        const length = this.readVarint();
        if (this.malformed) return false;
        return this.skip(length);
      }
      default:
        return this.fail();
    }
  }

  /**
   * Returns a string field's text.
   *
   * @param last returned if the field has this text again: comparing short texts takes a tenth of the time of a new string
   */
  text(last = ''): string {
    return this.hasAscii(last) ? last : this.buffer.toString('utf8', this.valueStart, this.valueEnd);
  }

  private hasAscii(text: string): boolean {
    const { buffer, valueStart } = this;
    if (this.valueEnd - valueStart !== text.length) return false;
    for (let i = 0; i < text.length; i++) {
      const byte = buffer[valueStart + i]!;
      if (byte > 0x7f || byte !== text.charCodeAt(i)) return false;
    }
    return true;
  }

  private skip(bytes: number): boolean {
    if (bytes > this.end - this.at) return this.fail();
    this.valueStart = this.at;
    this.at += bytes;
    this.valueEnd = this.at;
    return true;
  }

  private readVarint(): number {
    let value = 0;
    let scale = 1;
    for (let i = 0; i < 10; i++) {
      if (this.at >= this.end) break;
      const byte = this.buffer[this.at++]!;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
      scale *= 128;
    }
    this.malformed = true;
    return 0;
  }

  private fail(): false {
    this.malformed = true;
    return false;
  }
}

export function varintField(field: number, value: number): Buffer {
  return Buffer.from([...varint(field * 8), ...varint(value)]);
}

/** A double. */
export function fixed64Field(field: number, value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleLE(value);
  return Buffer.concat([Buffer.from(varint(field * 8 + WireType.FIXED64)), bytes]);
}

export function bytesField(field: number, value: Buffer): Buffer {
  return Buffer.concat([bytesFieldStart(field, value.length), value]);
}

/** What comes before the value of a field, which has so many bytes. */
export function bytesFieldStart(field: number, bytes: number): Buffer {
  return Buffer.from([...varint(field * 8 + WireType.BYTES), ...varint(bytes)]);
}

export function stringField(field: number, value: string): Buffer {
  return bytesField(field, Buffer.from(value, 'utf8'));
}

function varint(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  while (rest >= 128) {
    bytes.push((rest % 128) | 128);
    rest = Math.floor(rest / 128);
  }
  bytes.push(rest);
  return bytes;
}
