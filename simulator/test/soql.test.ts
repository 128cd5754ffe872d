import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseSoql, type Result, runSoql, SoqlError, type Source } from '../src/soql.ts'
import type { Row } from '../src/world.ts'

const accounts: Row[] = [
  {
    Id: '001000000000001AAA',
    Name: 'Alpha',
    NumberOfEmployees: 10,
    Industry: 'Media',
    CreatedDate: '2026-01-01T00:00:00.000+0000',
  },
  {
    Id: '001000000000002AAA',
    Name: 'beta',
    NumberOfEmployees: 200,
    Industry: null,
    CreatedDate: '2026-02-01T00:00:00.000+0000',
  },
  {
    Id: '001000000000003AAA',
    Name: "O'Neil 100%",
    NumberOfEmployees: null,
    Industry: 'Energy',
    CreatedDate: '2026-03-01T00:00:00.000+0000',
  },
]
const contacts: Row[] = [
  { Id: '003000000000001AAA', LastName: 'One', AccountId: '001000000000001AAA', IsDeleted: false },
]
const rows = (name: string) => (name === 'Account' ? accounts : name === 'Contact' ? contacts : [])
const source: Source = {
  rows: type => rows(type.name),
  row: (type, id) => rows(type.name).find(row => row.Id === id),
}
const names = (result: Result) => (result.kind === 'rows' ? result.rows.map(row => row.Name ?? row.LastName) : [])

test('SOQL that selects', () => {
  const [alpha, beta, oneil] = ['Alpha', 'beta', "O'Neil 100%"]
  const table: [string, unknown[]][] = [
    ['', [alpha, beta, oneil]],
    ["WHERE Name = 'ALPHA'", [alpha]],
    ["WHERE Name != 'alpha'", [beta, oneil]],
    ["WHERE Name <> 'alpha'", [beta, oneil]],
    ['WHERE NumberOfEmployees > 10', [beta]],
    ['WHERE NumberOfEmployees <= 200', [alpha, beta]],
    ['WHERE Industry = null', [beta]],
    ['WHERE Industry != NULL', [alpha, oneil]],
    ["WHERE Name LIKE '%a'", [alpha, beta]],
    ["WHERE Name LIKE '_eta'", [beta]],
    ["WHERE Name LIKE 'o\\'n%'", [oneil]],
    ["WHERE Industry IN ('Media', 'Energy')", [alpha, oneil]],
    ["WHERE Industry NOT IN ('Media')", [beta, oneil]],
    ["WHERE Id = '001000000000001'", [alpha]],
    ["WHERE (Name = 'alpha' OR Name = 'beta') AND NumberOfEmployees > 50", [beta]],
    ["WHERE NOT Name = 'alpha'", [beta, oneil]],
    ['WHERE CreatedDate >= 2026-02-01T00:00:00Z', [beta, oneil]],
    ['ORDER BY Name DESC', [oneil, beta, alpha]],
    ['ORDER BY NumberOfEmployees', [oneil, alpha, beta]],
    ['ORDER BY NumberOfEmployees DESC NULLS LAST, Name', [beta, alpha, oneil]],
    ['ORDER BY Name LIMIT 1 OFFSET 1', [beta]],
    ['LIMIT 0', []],
  ]
  for (const [tail, expected] of table) {
    assert.deepEqual(names(runSoql(`SELECT Id, Name FROM Account ${tail}`, source)), expected, tail)
  }
  assert.deepEqual(names(runSoql("select lastname from contact where account.name like 'a%'", source)), ['One'])
  assert.deepEqual(runSoql('SELECT COUNT() FROM Account', source), { kind: 'count', size: 3 })
  assert.deepEqual(runSoql('SELECT COUNT(Industry) n FROM Account', source), { kind: 'aggregate', alias: 'n', size: 2 })
  const all = runSoql('SELECT FIELDS(ALL) FROM Account LIMIT 200', source)
  assert.ok(all.kind === 'rows' && all.paths.includes('AnnualRevenue'))
})

test('SOQL that does not', () => {
  const table: [string, string, RegExp][] = [
    ['', 'MALFORMED_QUERY', /unexpected token: '<EOF>'/],
    ['SELECT', 'MALFORMED_QUERY', /<EOF>/],
    ['SELECT FROM Account', 'MALFORMED_QUERY', /unexpected token: 'FROM'/],
    ['SELECT Id FORM Account', 'MALFORMED_QUERY', /Row:1:Column:11\nunexpected token: 'FORM'/],
    ['SELECT Id, FROM Account', 'MALFORMED_QUERY', /'FROM'/],
    ['SELECT * FROM Account', 'MALFORMED_QUERY', /unexpected token: '\*'/],
    ["SELECT Id FROM Account WHERE Name = 'x", 'MALFORMED_QUERY', /unexpected token/],
    ['SELECT Id FROM Account WHERE Name = x', 'MALFORMED_QUERY', /unexpected token: 'x'/],
    ['SELECT Id FROM Account WHERE', 'MALFORMED_QUERY', /<EOF>/],
    [
      "SELECT Id FROM Account WHERE Name = 'a' AND Name = 'b' OR Name = 'c'",
      'MALFORMED_QUERY',
      /unexpected token: 'OR'/,
    ],
    ['SELECT Id FROM Account LIMIT -1', 'MALFORMED_QUERY', /'-1'/],
    ['SELECT Id FROM Account LIMIT 1 garbage', 'MALFORMED_QUERY', /'garbage'/],
    ['SELECT Id FROM Account OFFSET 2001', 'MALFORMED_QUERY', /offset/],
    ['SELECT FIELDS(ALL) FROM Account', 'MALFORMED_QUERY', /LIMIT/],
    [`SELECT Id FROM Account WHERE ${'('.repeat(100_000)}`, 'MALFORMED_QUERY', /nested/],
    ['SELECT Id FROM Nope', 'INVALID_TYPE', /sObject type 'Nope' is not supported/],
    ['SELECT Id FROM constructor', 'INVALID_TYPE', /not supported/],
    ['SELECT Idd FROM Account', 'INVALID_FIELD', /No such column 'Idd' on entity 'Account'/],
    ["SELECT Id FROM Account WHERE Nope = 'x'", 'INVALID_FIELD', /No such column/],
    ['SELECT Id FROM Account ORDER BY Nope', 'INVALID_FIELD', /No such column/],
    ['SELECT Nope.Name FROM Contact', 'INVALID_FIELD', /relationship/],
    ["SELECT Id FROM Account WHERE NumberOfEmployees = '10'", 'INVALID_FIELD', /should not be enclosed in quotes/],
    ['SELECT Id FROM Account WHERE Name = 10', 'INVALID_FIELD', /should be enclosed in quotes/],
  ]
  for (const [text, code, message] of table) {
    assert.throws(
      () => runSoql(text, source),
      (error: unknown) => error instanceof SoqlError && error.code === code && message.test(error.message),
      text.slice(0, 80),
    )
  }
})

test('a hostile LIKE is not slow', () => {
  const long: Source = { rows: () => [{ Id: 'x', Name: 'a'.repeat(30_000) }], row: () => undefined }
  const started = performance.now()
  runSoql(`SELECT Id FROM Account WHERE Name LIKE '${'%a'.repeat(50)}b'`, long)
  assert.ok(performance.now() - started < 2000)
})

test('the parser keeps what was asked', () => {
  assert.deepEqual(parseSoql("SELECT Id, Account.Name FROM Contact WHERE Name = 'it\\'s' LIMIT 5"), {
    select: { kind: 'fields', paths: ['Id', 'Account.Name'] },
    from: 'Contact',
    where: { op: '=', path: 'Name', value: { kind: 'string', text: "it's" } },
    orderBy: [],
    limit: 5,
    offset: 0,
  })
})
