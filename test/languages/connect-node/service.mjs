// The service's description, made without a compiler, and the text that the suite and its peers exchange.
import { create, createFileRegistry } from '@bufbuild/protobuf';
import {
  FieldDescriptorProto_Label,
  FieldDescriptorProto_Type,
  FileDescriptorProtoSchema,
} from '@bufbuild/protobuf/wkt';
import { decodeBinaryHeader, encodeBinaryHeader } from '@connectrpc/connect';

const chunk = '.languages.Chunk';
const method = (name, clientStreaming, serverStreaming) => ({
  name,
  inputType: chunk,
  outputType: chunk,
  clientStreaming,
  serverStreaming,
});

const file = create(FileDescriptorProtoSchema, {
  name: 'bytes.proto',
  package: 'languages',
  syntax: 'proto3',
  messageType: [
    {
      name: 'Chunk',
      field: [
        {
          name: 'data',
          jsonName: 'data',
          number: 1,
          type: FieldDescriptorProto_Type.BYTES,
          label: FieldDescriptorProto_Label.OPTIONAL,
        },
      ],
    },
  ],
  service: [
    {
      name: 'Bytes',
      method: [
        method('Unary', false, false),
        method('ClientStream', true, false),
        method('ServerStream', false, true),
        method('BidiStream', true, true),
      ],
    },
  ],
});

const registry = createFileRegistry(file, () => undefined);
export const Bytes = registry.getService('languages.Bytes');
const Chunk = registry.getMessage('languages.Chunk');

/** A message whose data has this size. */
export function message(size) {
  return create(Chunk, { data: Uint8Array.from({ length: size }, (_, i) => i * 31 + (i >> 8)) });
}

export const say = (line) => process.stdout.write(`${line}\n`);

/** Adds a field as the suite writes it. */
export function put(headers, name, value) {
  if (!name.endsWith('-bin')) return headers.append(name, value);
  // `append` joins by a comma and a space, and older servers of gRPC's core take no space in base64.
  const encoded = encodeBinaryHeader(Buffer.from(value, 'hex'));
  headers.set(name, [headers.get(name) ?? [], encoded].flat().join(','));
}

/** Each field as ` PREFIX.NAME=VALUE`. */
export function fields(prefix, headers) {
  return [...(headers ?? [])]
    .map(([name, value]) => {
      if (!name.endsWith('-bin')) return ` ${prefix}.${name}=${encodeURIComponent(value)}`;
      const values = value.split(/, */).map((one) => Buffer.from(decodeBinaryHeader(one)).toString('hex'));
      return ` ${prefix}.${name}=${values.join(',')}`;
    })
    .join('');
}
