/** The OpenAPI document as a page: plain markup that a browser's own search finds everything in. */
import { type Html, html } from '../http/page.ts'
import type { Document, Operation, Schema } from './openapi.ts'

const refName = ($ref: string): string => $ref.slice($ref.lastIndexOf('/') + 1)

export function referencePage(document: Document): Html {
  const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method: method.toUpperCase(), operation })),
  )
  const groups = document.tags.map(({ name }) => ({
    name,
    operations: operations.filter(({ operation }) => operation.tags[0] === name),
  }))
  return html`
    <h1>API reference</h1>
    <p>Version ${document.info.version}, at <code>${document.servers[0]!.url}</code>. For machines: <a href="/openapi.json">OpenAPI 3.1</a>.
      Every failure has one <a href="#schema-Error">envelope</a>, and its code is one of <a href="/docs/errors">these</a>.</p>
    <table>
      ${Object.entries(document.components.securitySchemes).map(
        ([name, { description }]) => html`<tr><th>${name}</th><td>${description}</td></tr>`,
      )}
    </table>
    <nav aria-label="Operations">
      ${groups.map(
        group => html`
        <h3>${group.name}</h3>
        <ul>${group.operations.map(
          ({ path, method, operation }) =>
            html`<li><a href="#${operation.operationId}"><code>${method} ${path}</code></a> ${operation.summary ?? ''}</li>`,
        )}</ul>`,
      )}
    </nav>
    ${groups.map(
      group =>
        html`<h2>${group.name}</h2>${group.operations.map(one => operationPart(one.method, one.path, one.operation))}`,
    )}
    <h2>Schemas</h2>
    ${Object.entries(document.components.schemas).map(
      ([name, schema]) => html`<h3 id="schema-${name}">${name}</h3>${schemaPart(schema)}`,
    )}`
}

function operationPart(method: string, path: string, operation: Operation): Html {
  const { parameters = [], requestBody, responses } = operation
  const body = requestBody?.content['application/json']
  return html`
    <section id="${operation.operationId}">
      <h3>${method} ${path}</h3>
      <p>${operation.summary ?? ''}.</p>
      ${operation.description ? html`<p>${operation.description}</p>` : html``}
      <p class="soft">${whoMay(operation)}</p>
      ${
        parameters.length > 0
          ? table(
              parameters.map(({ name, in: place, required, description, schema }) => [
                html`<code>${name}</code>`,
                html`${typeOf(schema)}, ${place}${required ? html`, required` : html``}`,
                html`${description ?? schema.description ?? ''}`,
              ]),
            )
          : html``
      }
      ${body ? html`<p><strong>Body</strong></p>${schemaPart(body.schema)}${exampleOf(body.example ?? body.schema.example)}` : html``}
      ${Object.entries(responses).map(([status, answer]) => {
        const schema = Object.values(answer.content ?? {})[0]?.schema
        return html`<p><strong>${status === 'default' ? 'Otherwise' : status}</strong> ${answer.description}</p>
          ${schema && status !== 'default' ? schemaPart(schema) : html``}`
      })}
    </section>`
}

function whoMay({ security = [] }: Operation): string {
  if (security.length === 0) return 'Needs no key.'
  const ways = security.flatMap(one =>
    Object.entries(one).map(([scheme, scopes]) => (scopes.length > 0 ? `${scheme} with ${scopes.join(', ')}` : scheme)),
  )
  return `Needs ${ways.join(', or ')}.`
}

const exampleOf = (example: unknown): Html =>
  example === undefined ? html`` : html`<pre><code>${JSON.stringify(example, null, 2)}</code></pre>`

const table = (rows: Html[][]): Html =>
  html`<table>${rows.map(cells => html`<tr>${cells.map(cell => html`<td>${cell}</td>`)}</tr>`)}</table>`

/** Members one below the other, those of members with a dotted name. */
function schemaPart(schema: Schema): Html {
  const rows = membersOf(schema, '')
  return rows.length > 0 ? table(rows) : html`<p>${typeOf(schema)}</p>`
}

function membersOf(schema: Schema, prefix: string): Html[][] {
  const parts = [schema, ...(schema.allOf ?? [])]
  return parts.flatMap(part =>
    Object.entries(part.properties ?? {}).flatMap(([name, member]) => {
      const inner = member.items?.properties ? member.items : member
      const path = `${prefix}${name}`
      return [
        [
          html`<code>${path}</code>`,
          html`${typeOf(member)}${part.required?.includes(name) ? html`` : html`, optional`}`,
          html`${member.description ?? ''}`,
        ],
        ...membersOf(inner, `${path}${inner === member ? '.' : '[].'}`),
      ]
    }),
  )
}

function typeOf(schema: Schema): Html {
  const { $ref, type, anyOf, oneOf, allOf } = schema
  const among = anyOf ?? oneOf
  if ($ref) return html`<a href="#schema-${refName($ref)}">${refName($ref)}</a>`
  if (schema.const !== undefined) return html`<code>${JSON.stringify(schema.const)}</code>`
  if (schema.enum)
    return html`${schema.enum.map((one, i) => html`${i > 0 ? ' or ' : ''}<code>${one === '' ? '""' : String(one)}</code>`)}`
  if (among) return html`${among.map((one, i) => html`${i > 0 ? ' or ' : ''}${typeOf(one)}`)}`
  if (allOf) return html`${allOf.map((one, i) => html`${i > 0 ? ' and ' : ''}${typeOf(one)}`)}`
  if (type === 'array') return html`list of ${typeOf(schema.items ?? {})}`
  if (Array.isArray(type)) return html`${type.join(' or ')}`
  return html`${schema.format ?? type ?? 'anything'}`
}
