/** Writes the page that describes the REST API, from its OpenAPI document. */
import { readFileSync } from 'node:fs';
import type { FastifyInstance } from 'fastify';

interface Schema {
  readonly type?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly enum?: readonly unknown[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly maxLength?: number;
  readonly required?: readonly string[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: Schema | boolean;
  readonly items?: Schema;
}

interface Parameter {
  readonly name: string;
  /** `path`, `query` or `header`. */
  readonly in: string;
  readonly description?: string;
  readonly required?: boolean;
  readonly schema?: Schema;
}

type Content = Readonly<Record<string, { readonly schema?: Schema }>>;

interface Operation {
  readonly summary?: string;
  readonly description?: string;
  readonly parameters?: readonly Parameter[];
  readonly requestBody?: { readonly content: Content };
  readonly responses: Readonly<Record<string, { readonly description?: string; readonly content?: Content }>>;
}

/** The parts of an OpenAPI document that the page shows. */
interface ApiDocument {
  readonly info: { readonly title: string; readonly description?: string };
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
}

const style = readFileSync(new URL('page/api.css', import.meta.url));
/** The page has no script, so the policy allows none. */
const POLICY =
  "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/** GET /docs: the page; GET /docs/json: the OpenAPI document for other tools. */
export function apiPageRoutes(app: FastifyInstance): void {
  const hide = { schema: { hide: true } };
  let page: string | undefined;
  app.get('/docs', hide, (_request, reply) => {
    // Once all routes are known.
    page ??= apiPage(app.swagger() as unknown as ApiDocument);
    return reply.type('text/html; charset=utf-8').header('content-security-policy', POLICY).send(page);
  });
  app.get('/docs/json', hide, () => app.swagger());
  app.get('/api.css', hide, (_request, reply) => reply.type('text/css; charset=utf-8').send(style));
}

function apiPage({ info, paths }: ApiDocument): string {
  const operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => operationOf(method, path, operation)),
  );
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${text(info.title)}: API</title>
<link rel="icon" href="/icon.svg">
<link rel="stylesheet" href="/shared/colours.css">
<link rel="stylesheet" href="/api.css">
</head>
<body>
<header>
<h1>${text(info.title)}</h1>
<p>${text(info.description ?? '')} The same as <a href="/docs/json">OpenAPI</a>, for tools. <a href="/">The system's page</a>.</p>
</header>
<main>
${operations.join('\n')}
</main>
</body>
</html>
`;
}

function operationOf(method: string, path: string, operation: Operation): string {
  const { summary = '', description = '', parameters = [], requestBody, responses } = operation;
  const body = schemaOf(requestBody?.content);
  const answers = Object.entries(responses).map(([status, { description: meaning = '', content }]) => {
    const fields = fieldsOf(schemaOf(content));
    return `<section class="answer"><h4><span class="status">${text(status)}</span> ${prose(meaning)}</h4>${fields}</section>`;
  });
  return `<section>
<h2><span class="method">${text(method.toUpperCase())}</span> ${text(path)}</h2>
<p>${prose(summary)}${description === '' ? '' : `. ${prose(description)}`}</p>
<pre tabindex="0" aria-label="An example of ${text(method.toUpperCase())} ${text(path)}">${text(exampleOf(method, path, body))}</pre>
${parameters.length === 0 ? '' : `<h3>Parameters</h3>\n${tableOf('Parameter', parameters.map(rowOfParameter))}`}
${body === undefined ? '' : `<h3>Request</h3>\n${fieldsOf(body)}`}
<h3>Responses</h3>
${answers.join('\n')}
</section>`;
}

/** A command that calls it with the fields that it requires. */
function exampleOf(method: string, path: string, body: Schema | undefined): string {
  const verb = method === 'get' ? '' : `-X ${method.toUpperCase()} `;
  if (body === undefined) return `curl -s ${verb}http://127.0.0.1:8080${path.replace('{id}', '$TASK_ID')}`;
  const example = Object.fromEntries(
    (body.required ?? []).map((name) => [name, 'Why do circuit breakers matter?']),
  );
  return `curl -s ${verb}http://127.0.0.1:8080${path} \\
  -H 'content-type: application/json' \\
  -d '${JSON.stringify(example)}'`;
}

function schemaOf(content: Content | undefined): Schema | undefined {
  return content?.['application/json']?.schema;
}

/** A table of the fields, those of objects inside it by their path. */
function fieldsOf(schema: Schema | undefined): string {
  if (schema === undefined) return '';
  const rows = [...rowsOf(schema, '')];
  return rows.length === 0 ? '' : tableOf('Field', rows);
}

function tableOf(what: 'Field' | 'Parameter', rows: readonly string[]): string {
  return `<div class="fields" tabindex="0" role="group" aria-label="${what}s"><table>
<thead><tr><th scope="col">${what}</th><th scope="col">Type</th><th scope="col">Meaning</th></tr></thead>
<tbody>${rows.join('\n')}</tbody>
</table></div>`;
}

function rowOfParameter({
  name,
  in: place,
  description = '',
  required = false,
  schema = {},
}: Parameter): string {
  const meaning = description === '' ? (schema.description ?? '') : description;
  return rowOf(name, [place, typeOf(schema), ...(required ? ['required'] : [])].join(', '), meaning);
}

function rowOf(name: string, type: string, meaning: string): string {
  return `<tr><th scope="row"><code>${text(name)}</code></th><td>${text(type)}</td><td>${prose(meaning)}</td></tr>`;
}

function* rowsOf(
  { properties = {}, additionalProperties, required = [] }: Schema,
  above: string,
): Generator<string> {
  const named = Object.entries(properties);
  if (typeof additionalProperties === 'object') named.push(['*', additionalProperties]);
  for (const [name, field] of named) {
    const path = `${above}${name}`;
    const needed = required.includes(name) ? ', required' : '';
    yield rowOf(path, typeOf(field) + needed, field.description ?? '');
    if (field.type === 'object' && field.properties !== undefined) yield* rowsOf(field, `${path}.`);
  }
}

function typeOf({
  type = 'any',
  items,
  enum: values,
  minimum,
  maximum,
  maxLength,
  default: preset,
}: Schema): string {
  const parts = [items === undefined ? type : `${type} of ${items.type ?? 'any'}`];
  if (values !== undefined) parts.push(values.join(' | '));
  if (minimum !== undefined && maximum !== undefined) parts.push(`${minimum} to ${maximum}`);
  if (maxLength !== undefined) parts.push(`at most ${maxLength.toLocaleString('en-US')} characters`);
  if (preset !== undefined) parts.push(`default ${JSON.stringify(preset)}`);
  return parts.join(', ');
}

/** Text with its `code` marked. */
function prose(words: string): string {
  return text(words).replaceAll(/`([^`]+)`/g, '<code>$1</code>');
}

function text(words: string): string {
  return words
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}
