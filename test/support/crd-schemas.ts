// Objects held against the schemas of CustomResourceDefinitions, as strictly as `kubectl apply --validate=strict`.
import { readFileSync } from 'node:fs';
import { Ajv, type ValidateFunction } from 'ajv';
import { parseAllDocuments } from 'yaml';

// biome-ignore lint/suspicious/noExplicitAny: objects of every kind, read by paths
type KubernetesObject = any;

/** By `group/version kind`; fields that the schema doesn't have are an error, as with --validate=strict. */
export function schemasIn(...files: readonly string[]): ReadonlyMap<string, ValidateFunction> {
  const ajv = new Ajv({ strict: false, validateFormats: false, allErrors: true });
  const found = new Map<string, ValidateFunction>();
  for (const file of files) {
    for (const document of parseAllDocuments(readFileSync(file, 'utf8'))) {
      const { spec } = document.toJS() as KubernetesObject;
      for (const { name, schema } of spec.versions) {
        const { spec: part } = schema.openAPIV3Schema.properties;
        found.set(`${spec.group}/${name} ${spec.names.kind}`, ajv.compile(closed(part)));
      }
    }
  }
  return found;
}

function closed(schema: KubernetesObject): KubernetesObject {
  if (Array.isArray(schema)) return schema.map(closed);
  if (schema === null || typeof schema !== 'object') return schema;
  const inner = Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, closed(value)]));
  const isOpen = schema['x-kubernetes-preserve-unknown-fields'] || schema.additionalProperties !== undefined;
  const isObject = schema.type === 'object' && schema.properties !== undefined;
  if (schema['x-kubernetes-int-or-string']) delete inner['type'];
  return isObject && !isOpen ? { ...inner, additionalProperties: false } : inner;
}

/** What is wrong with the `spec` of an object; a kind without a schema is wrong, too. */
export function faultsOf(known: ReturnType<typeof schemasIn>, object: KubernetesObject): string[] {
  const { apiVersion, kind, metadata, spec } = object;
  const validate = known.get(`${apiVersion} ${kind}`);
  if (validate === undefined) return [`no schema of ${apiVersion} ${kind}`];
  validate(spec);
  return (validate.errors ?? []).map(
    ({ instancePath, message, params }) =>
      `${kind} ${metadata.name} ${instancePath} ${message} ${JSON.stringify(params)}`,
  );
}
