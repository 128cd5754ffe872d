/** An account that moved: which of the hosts somebody gave go along. The definitions are the built-in ones. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { followingHosts } from '../../src/credential/facts.ts'
import { parseEgressAllow } from '../../src/net/allow.ts'
import { loadCatalogue } from '../../src/provider/catalogue.ts'

const catalogue = loadCatalogue({ overlayPath: undefined, egressAllow: parseEgressAllow('').rules })
const was = 'acme--uat.sandbox.my.salesforce.com'
const is = 'apex--uat.sandbox.my.salesforce.com'
const site = 'acme.my.site.com'
const at = (host: string) => ({ instance_url: `https://${host}` })

const rows: [what: string, provider: string, before: object, learned: object, goesTo: string | undefined][] = [
  ['its own address', 'salesforce-sandbox', { hostname: was, ...at(was) }, at(is), is],
  ['its own address, at production', 'salesforce', { hostname: was, ...at(was) }, at(is), is],
  ['its own address, without a sign-in', 'salesforce-cc', { hostname: was, ...at(was) }, at(is), is],
  ['the same as before', 'salesforce-sandbox', { hostname: was, ...at(was) }, at(was), undefined],
  [
    'the log-in of every sandbox',
    'salesforce-sandbox',
    { hostname: 'test.salesforce.com', ...at(was) },
    at(is),
    undefined,
  ],
  ['another one than it was at', 'salesforce-sandbox', { hostname: site, ...at(was) }, at(is), undefined],
  ['none', 'salesforce-sandbox', at(was), at(is), undefined],
  ['a site', 'salesforce-experience-cloud', { hostname: was, ...at(was) }, at(is), undefined],
  ['and nothing was told', 'salesforce-sandbox', { hostname: was, ...at(was) }, {}, undefined],
  ['and nothing was known', 'salesforce-sandbox', { hostname: was }, at(is), undefined],
]
for (const [what, name, before, learned, goesTo] of rows)
  test(`a host that is ${what} ${goesTo ? 'goes along' : 'stays'}`, () => {
    const followed = followingHosts(catalogue.get(name)!, { ...before }, { ...learned })
    assert.deepEqual(followed, goesTo ? { hostname: goesTo } : {})
  })
