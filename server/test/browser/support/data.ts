/** A busy environment: a thousand connections in every state, a hundred thousand calls of the last day. Written straight into the database. */
import { sql } from '../../../src/db/sql.ts'
import type { Db, Vault } from '../../../src/seams.ts'
import type { Fairlead } from '../../support/fairlead.ts'

export async function fillWithData(
  fairlead: Fairlead,
  db: Db,
  vault: Vault,
): Promise<{ integration: string; id: string }> {
  const credentials = { type: 'OAUTH2', client_id: '3MVG9'.padEnd(85, 'x'), client_secret: 'a-secret-of-the-client' }
  for (const [provider, key, name] of [
    ['salesforce', 'salesforce', 'Acme CRM'],
    ['salesforce-sandbox', 'salesforce-sandbox', 'Acme CRM sandbox'],
  ])
    await fairlead.call('POST', '/integrations', { provider, unique_key: key, display_name: name, credentials })
  const rows = await db.query<{ id: string; environment_id: number }>(sql`
    insert into credential (id, environment_id, integration_id, kind, config, scopes_requested, scopes_granted, token_version, obtained_at, expires_at,
      sealed, health, cause, paused, keep_alive_at)
    select gen_random_uuid(), i.environment_id, i.id, 'oauth2-code',
      jsonb_build_object('instance_url', 'https://customer-' || n || '.my.salesforce.com', 'organization_id', '00D' || lpad(n::text, 15, '0')),
      '{api,refresh_token,openid}', '{api,refresh_token}', 1 + n % 40, now() - n % 90 * interval '1 minute', now() + (30 + n % 80) * interval '1 minute',
      null, case when n % 97 = 0 then 'needs_reauth' when n % 41 = 0 then 'degraded' when n % 211 = 0 then 'blocked_by_policy' else 'active' end,
      case when n % 97 = 0 then 'invalid_grant' when n % 41 = 0 then 'refresh_unanswered' when n % 211 = 0 then 'policy' end,
      n % 61 = 0, now() + n % 20 * interval '1 day'
    from generate_series(1, 1000) n join integration i on i.unique_key = case when n % 3 = 0 then 'salesforce-sandbox' else 'salesforce' end
    returning id, environment_id`)
  // Lists open no seal, the page of one connection does.
  const tokens = JSON.stringify({ access_token: '00D!a', refresh_token: '5Aep8', token_type: 'Bearer', raw: {} })
  const sealed = await Promise.all(
    rows.map(({ id, environment_id }) => {
      const place = { table: 'credential', column: 'sealed', environment: environment_id, row: id }
      return vault.withKeys(() => vault.seal(tokens, place))
    }),
  )
  await db.query(sql`
    update credential set sealed = s.sealed from unnest(${rows.map(row => row.id)}::uuid[], ${sealed}::bytea[]) as s (id, sealed)
    where credential.id = s.id`)
  await db.query(sql`
    insert into connection (environment_id, integration_id, credential_id, connection_id, end_user, organization, created_at)
    select k.environment_id, k.integration_id, k.id, gen_random_uuid(),
      jsonb_build_object('id', 'user-' || n, 'display_name', 'Customer ' || n, 'email', 'admin@customer-' || n || '.com'),
      jsonb_build_object('id', 'org-' || n, 'display_name', 'Company ' || n), now() - n * interval '37 minutes'
    from (select *, row_number() over (order by id) as n from credential) k`)
  await db.query(sql`
    insert into activity (slot, at, environment_id, api_key_id, provider_config_key, connection_id, method, host, path, status, outcome, error,
      bytes_up, bytes_down, sent_ms, first_byte_ms, total_ms, retries, refreshed)
    select 0, date_trunc('milliseconds', now() - (n * 0.86 * (0.6 + 0.4 * sin(n / 9000.0))) * interval '1 second'), 1, 1, i.unique_key, c.connection_id,
      (array['GET', 'GET', 'GET', 'POST', 'PATCH'])[1 + n % 5], 'customer.my.salesforce.com',
      (array['/services/data/v66.0/query', '/services/data/v66.0/sobjects/Account/{id}', '/services/data/v66.0/composite', '/services/data/v66.0/limits'])[1 + n % 4],
      case when n % 83 = 0 then 503 when n % 37 = 0 then 404 else 200 end, 'answered', null, n % 900, 200 + n * 7 % 9000, 0.4 + n % 10 / 20.0,
      40 + n * 13 % 160 + case when n % 50 = 0 then 900 else 0 end, 45 + n * 13 % 170 + case when n % 50 = 0 then 950 else 0 end, 0, n % 120 = 0
    from generate_series(1, 100000) n
      join (select connection_id, integration_id, row_number() over (order by id) as k from connection) c on c.k = 1 + n % 1000
      join integration i on i.id = c.integration_id`)
  await db.query(sql`
    insert into renewal_count (environment_id, hour, outcome, n)
    select 1, date_trunc('hour', now()) - n * interval '1 hour', outcome,
      case outcome when 'renewed' then 30 + n * 7 % 20 when 'refused' then n % 5 / 4 else case when n between 6 and 9 then 9 - n else n % 3 / 2 end end
    from generate_series(0, 23) n, unnest('{renewed,refused,unavailable}'::text[]) outcome`)
  await db.query(sql`analyze activity, connection, credential`)
  const [one] = await db.query<{ id: string }>(sql`
    select c.connection_id as id from connection c join integration i on i.id = c.integration_id where i.unique_key = 'salesforce' limit 1`)
  if (!one) throw new Error('nothing was written')
  return { integration: 'salesforce', id: one.id }
}
