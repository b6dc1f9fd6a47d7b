/** Says which models of the configuration a provider does not have: by its list, and for Azure by a request that it must refuse. */

import type { ModelListForm } from '../../llm/kinds/traits.ts';
import type { LlmModelSettings, LlmUpstreamSettings } from '../../llm/shared/llm-settings.ts';
import { isObject } from '../../node/json.ts';

/** How many names a message lists. */
const MOST_NAMES = 8;

/** The models for which the configuration sends requests to an upstream. */
export function modelsAt(
  { name, model }: Pick<LlmUpstreamSettings, 'name' | 'model'>,
  rules: readonly LlmModelSettings[],
): readonly string[] {
  const names = new Set(model === undefined ? [] : [model]);
  for (const { match, use } of rules)
    for (const place of use) {
      if (place.upstream !== name) continue;
      const own = place.model ?? model ?? (match.includes('*') ? undefined : match);
      if (own !== undefined) names.add(own);
    }
  return [...names];
}

/** Returns the names in a list of models; undefined for a body that is none. */
export function namesIn(body: string, form: ModelListForm): readonly string[] | undefined {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    return undefined;
  }
  const entries = isObject(value) ? value[form.key] : undefined;
  if (!Array.isArray(entries)) return undefined;
  return entries.flatMap((entry) =>
    isObject(entry) && typeof entry[form.id] === 'string' ? [form.idOf(entry)] : [],
  );
}

/** Says that the list lacks a model; undefined where it has it. */
export function missingFrom(names: readonly string[], model: string): string | undefined {
  if (names.includes(model)) return undefined;
  const few = names.slice(0, MOST_NAMES).join(', ');
  return `its list of models has no ${model}; it has ${few}${names.length > MOST_NAMES ? ` and ${names.length - MOST_NAMES} more` : ''}`;
}

/** Whether Azure's refusal of an empty request says that there is no such deployment. */
export function lacksDeployment(status: number, body: string): boolean {
  return status === 404 && /DeploymentNotFound|deployment.{0,40}does not exist/i.test(body);
}
