/** The resource of all spans, from the standard variables and the host. Loaded only when tracing is on. */
import {
  defaultResource,
  detectResources,
  envDetector,
  hostDetector,
  osDetector,
  resourceFromAttributes,
  serviceInstanceIdDetector,
} from '@opentelemetry/resources';
import type { Attributes, AttributeValue } from './span.ts';

/**
 * The name is `OTEL_SERVICE_NAME`, then `service.name` in `OTEL_RESOURCE_ATTRIBUTES`, then the sidecar's own name. The
 * rest of `OTEL_RESOURCE_ATTRIBUTES` joins the attributes of the host. The process's command line stays out: it may
 * contain secrets.
 */
export async function tracingResource(name: string, version: string): Promise<Attributes> {
  const own = resourceFromAttributes({
    'service.name': name,
    'service.version': version,
    'process.pid': process.pid,
    'process.runtime.name': 'nodejs',
    'process.runtime.version': process.versions.node,
  });
  const detectors = [serviceInstanceIdDetector, hostDetector, osDetector, envDetector];
  const resource = defaultResource().merge(own).merge(detectResources({ detectors }));
  await resource.waitForAsyncAttributes?.();
  const attributes: AttributeValue[] = [];
  for (const [key, value] of Object.entries(resource.attributes)) {
    if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean')
      attributes.push(key, value);
  }
  return attributes;
}
