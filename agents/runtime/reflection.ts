/** gRPC server reflection for agents. */
import { type ServerDuplexStream, status, type UntypedServiceImplementation } from '@grpc/grpc-js';
import type { PackageDefinition } from '@grpc/proto-loader';

interface ReflectionRequest {
  host: string;
  message_request?:
    | 'file_by_filename'
    | 'file_containing_symbol'
    | 'file_containing_extension'
    | 'all_extension_numbers_of_type'
    | 'list_services';
  file_by_filename?: string;
  file_containing_symbol?: string;
  list_services?: string;
}

type Answer =
  | { file_descriptor_response: { file_descriptor_proto: Buffer[] } }
  | { list_services_response: { service: { name: string }[] } }
  | { error_response: { error_code: number; error_message: string } };

/**
 * Server reflection (grpc.reflection.v1) over all of proto/. The files are few, so every question about a known symbol
 * gets all of them; a client takes what it needs.
 *
 * @param unlisted services that the sidecar may serve at this address: described to who asks for them by name
 */
export function reflection(
  definition: PackageDefinition,
  unlisted: readonly string[] = [],
): UntypedServiceImplementation {
  const services: string[] = [];
  const symbols = new Set<string>();
  const files = new Map<string, Buffer>();
  for (const [name, entry] of Object.entries(definition)) {
    symbols.add(name);
    if (Array.isArray(entry.fileDescriptorProtos)) {
      for (const file of entry.fileDescriptorProtos) files.set(file.toString('latin1'), file);
    } else {
      if (!unlisted.includes(name)) services.push(name);
      for (const method of Object.keys(entry)) symbols.add(`${name}.${method}`);
    }
  }
  const allFiles = { file_descriptor_response: { file_descriptor_proto: [...files.values()] } };

  const answerTo = (request: ReflectionRequest): Answer => {
    switch (request.message_request) {
      case 'list_services':
        return { list_services_response: { service: services.map((name) => ({ name })) } };
      case 'file_containing_symbol':
        return symbols.has(request.file_containing_symbol ?? '') ? allFiles : notFound('symbol');
      case 'file_by_filename':
        return notFound('file name; request a symbol');
      default:
        return notFound('extension');
    }
  };

  return {
    ServerReflectionInfo: (call: ServerDuplexStream<ReflectionRequest, unknown>) => {
      call.on('data', (request: ReflectionRequest) => {
        const answered = { valid_host: request.host, original_request: request, ...answerTo(request) };
        if (!call.write(answered)) {
          call.pause();
          call.once('drain', () => call.resume());
        }
      });
      call.on('end', () => call.end());
    },
  };
}

function notFound(what: string): Answer {
  return { error_response: { error_code: status.NOT_FOUND, error_message: `unknown ${what}` } };
}
