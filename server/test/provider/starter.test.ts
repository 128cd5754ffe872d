/** The catalogue that comes along: what every definition in it must be, beyond being well-formed. */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { formOf } from '../../src/credential/kinds/form.ts'
import { kindOf } from '../../src/credential/kinds/kinds.ts'
import { parseEgressAllow } from '../../src/net/allow.ts'
import { hostAllowed, loadCatalogue } from '../../src/provider/catalogue.ts'
import { endpoint, tokenUrlOf } from '../../src/provider/endpoint.ts'
import { fieldFault } from '../../src/provider/form.ts'
import type { Provider } from '../../src/provider/schema.ts'

const catalogue = loadCatalogue({ overlayPath: undefined, egressAllow: parseEgressAllow('').rules })
const all = catalogue.list()

test('there are many, of every kind', () => {
  assert.ok(all.length >= 130, String(all.length))
  const modes = new Set(all.map(provider => provider.auth_mode))
  assert.deepEqual([...modes].sort(), ['API_KEY', 'BASIC', 'JWT', 'NONE', 'OAUTH1', 'OAUTH2', 'OAUTH2_CC', 'TWO_STEP'])
})

test('a logo is a drawing, of a provider that is there', () => {
  const folder = new URL('../../../providers/logos/', import.meta.url)
  const files = readdirSync(folder).filter(file => file.endsWith('.svg'))
  assert.ok(files.length >= 100)
  for (const file of files) {
    const name = file.slice(0, -'.svg'.length)
    assert.ok(catalogue.get(name) ?? all.some(({ logo }) => logo === name), `${name} is no provider`)
    const drawing = readFileSync(new URL(file, folder), 'utf8')
    assert.match(drawing, /^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg" viewBox="[\d. -]+">.*<\/svg>\n$/s, file)
    // Shown as an image, where neither would work; opened by itself, where either could.
    assert.doesNotMatch(drawing, /<(?:script|style|foreignObject|image|a)\b|\bon\w+=|href="(?!#)/i, file)
  }
})

/** As the provider's own code reads what a person types. */
function spelt(provider: Provider, name: string, typed: string): string | undefined {
  const read = catalogue.hooks(provider).readFact?.(provider, name, typed)
  assert.ok(!read || 'facts' in read, typed)
  return read ? read.facts[name] : typed
}

/** What a provider says of the account, where its API's address is among it. */
const told: Record<string, Record<string, string>> = {
  gong: { api_base_url_for_customer: 'https://company-17.api.gong.io' },
  pipedrive: { api_domain: 'https://acme.pipedrive.com' },
  wrike: { host: 'www.wrike.com' },
  'zoho-crm': { api_domain: 'https://www.zohoapis.com' },
}

for (const provider of all)
  test(`${provider.name}: hosts, templates, forms and links`, () => {
    assert.equal(provider.unsupported, undefined)
    assert.match(provider.docs ?? '', /^https:\/\//)
    assert.ok(provider.categories?.length)
    const kind = kindOf(provider)
    assert.ok(kind)

    const fields = { ...provider.connection_config, ...formOf(kind, provider) }
    for (const [name, field] of Object.entries(fields)) {
      assert.ok(field.title, `${name} has a title`)
      if (field.automated || field.hidden) continue
      if (field.pattern) assert.ok(field.example, `${name} has an example, because it has a pattern`)
      const example = field.example && spelt(provider, name, field.example)
      if (example) assert.equal(fieldFault(field, example), undefined, `${name} takes its own example`)
      if (field.default_value) assert.equal(fieldFault(field, field.default_value), undefined)
      if (field.pattern) assert.match(field.pattern, /^\^.*\$$/, `${name}: the pattern holds for the whole`)
    }

    const facts = Object.fromEntries(
      Object.entries(provider.connection_config ?? {}).flatMap(([name, field]) => {
        const said = field.example ?? field.default_value
        return said === undefined ? [] : [[name, spelt(provider, name, said)]]
      }),
    )
    const instance = provider.connection_config?.instance_url ? { instance_url: 'https://acme.my.salesforce.com' } : {}
    const sources = [provider.authorization_url, tokenUrlOf(provider), provider.request_url, provider.proxy?.base_url]
    for (const source of sources) {
      if (!source) continue
      const url = endpoint(provider, source, { ...facts, ...instance, ...told[provider.name] })
      assert.equal(url?.protocol, 'https:', source)
      assert.ok(hostAllowed(provider, url.hostname), `${url.hostname} is allowed`)
    }
    assert.ok(!hostAllowed(provider, 'evil.example'))
    assert.doesNotMatch(JSON.stringify(provider), /http:\/\//)
  })
