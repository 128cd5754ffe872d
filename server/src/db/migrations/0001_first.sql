-- Nothing secret stands in a plain column: `*_sealed` is AES-256-GCM (vault/), `*_lookup` and `*_hash` are keyed or plain hashes
-- of random values. Instants are compared by the database's clock_timestamp(), never by a process's clock.

-- One row. Bumped by whoever restores a backup: every rotating refresh token is then asked about before it is presented again.
create table history (
  restored integer not null default 0
);
insert into history default values;

create table environment (
  id integer generated always as identity primary key,
  name text not null unique check (name ~ '^[a-z0-9_-]+$'),
  uuid uuid not null unique default gen_random_uuid(),
  created_at timestamptz not null default now()
);

-- What sealed values are sealed with, itself wrapped by a key-encryption key that is not in the database. Each sealed column has a
-- generated one beside it that reads the key's id from the value and refers to this table.
create table data_key (
  id bytea primary key check (length(id) = 8),
  -- null: the installation's own
  environment_id integer references environment on delete cascade,
  wrapped bytea not null,
  kek_id text not null,
  created_at timestamptz not null default clock_timestamp(),
  -- from here on it opens and does not seal
  retired_at timestamptz
);
create unique index data_key_one_current on data_key (environment_id) nulls not distinct where retired_at is null;

-- What belongs to the whole installation: the sealed pepper of every keyed hash.
create table setting (
  name text primary key,
  sealed bytea not null,
  sealed_key bytea generated always as (substring(sealed from 2 for 8)) stored references data_key
);

create table api_key (
  id bigint generated always as identity primary key,
  environment_id integer not null references environment on delete cascade,
  display_name text not null,
  lookup bytea not null unique check (length(lookup) = 32),
  scopes text[] not null,
  created_at timestamptz not null default now()
);
create unique index api_key_one_default on api_key (environment_id) where display_name = 'default';

create table integration (
  id bigint generated always as identity primary key,
  environment_id integer not null references environment on delete cascade,
  unique_key text not null,
  provider text not null,
  display_name text,
  client_id text,
  client_secret_sealed bytea,
  client_secret_key bytea generated always as (substring(client_secret_sealed from 2 for 8)) stored references data_key,
  scopes text,
  forward_webhooks boolean not null default true,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  unique (environment_id, unique_key)
);

-- One row per grant; many connections may share it. Which column moves when: refresh-protocol, "Row".
create table credential (
  id uuid primary key,
  environment_id integer not null references environment on delete cascade,
  integration_id bigint not null references integration on delete cascade,
  kind text not null,
  config jsonb not null default '{}',
  scopes_requested text[] not null default '{}',
  scopes_granted text[] not null default '{}',

  -- moved by installing tokens, and by nothing else
  token_version integer not null default 1,
  -- moved by a new sign-in only: tells a late answer of this grant from one of a grant before
  grant_number integer not null default 1,
  token_fp bytea,
  sealed bytea,
  sealed_key bytea generated always as (substring(sealed from 2 for 8)) stored references data_key,
  obtained_at timestamptz not null default now(),
  expires_at timestamptz,
  -- the token_version whose lifetime the provider was asked for: once per token
  lifetime_asked integer not null default 0,
  -- null until a refresh shows it; unknown counts as rotating with reuse penalty
  rotates boolean,

  -- one attempt at refreshing
  claim_id uuid,
  lease_until timestamptz,
  intent_claim uuid,
  intent_at timestamptz,
  intent_node text,
  -- the one presentation that is allowed when nobody can be asked and nothing is left to lose was made
  last_tried boolean not null default false,
  next_try_at timestamptz,
  failures integer not null default 0,

  spent boolean not null default false,
  suspect boolean not null default false,
  health text not null default 'active' check (health in ('active', 'degraded', 'needs_reauth', 'blocked_by_policy')),
  cause text,
  -- moved by people only; separate from health so that a save cannot undo them
  paused boolean not null default false,
  gone_at timestamptz,
  db_epoch text,
  -- renewed then although nobody asks, so that an idle limit of the provider does not end it; null: nobody has decided yet, or there is none
  keep_alive_at timestamptz,
  -- its place among all turns, see keep_alive_moment
  keep_alive_turn bigint not null generated always as identity,
  created_at timestamptz not null default now()
);
-- Waiting for a policy at the provider to be lifted; they are asked again slowly, by themselves.
create index credential_blocked on credential (next_try_at) where health = 'blocked_by_policy' and gone_at is null;
-- By integration, so that the backlog of one whose provider is away is not read by the others.
create index credential_keep_alive on credential (integration_id, keep_alive_at)
  where token_fp is not null and gone_at is null and not paused and not spent and health in ('active', 'degraded');
create index credential_by_key on credential (sealed_key, id);
create index credential_open_intent on credential (intent_at) where intent_claim is not null and gone_at is null;
-- What people look for: the few that are not simply active. Among a million a list of them took 320 ms without it.
create index credential_by_state on credential ((case when paused then 'paused' else health end)) where paused or health <> 'active';
-- One grant has one owner of its refresh token.
create unique index credential_one_grant on credential (integration_id, token_fp) where gone_at is null and token_fp is not null;

-- The next turn of a grant that was renewed at `since`: between a tenth and six tenths of the idle limit later. Each row's turns come half the
-- limit apart, at an offset that multiples of the golden ratio spread evenly over the rows. Drawing a moment at random after each renewal
-- would do so once; the second round of a million grants imported together has minutes at 2.3 times the mean.
create function keep_alive_moment(turn bigint, since timestamptz, idle_limit interval) returns timestamptz
  language sql stable parallel safe
  -- one expression without FROM, which PostgreSQL puts in place of the call: 1 µs instead of 20
  as $$
    select since + idle_limit / 10 + idle_limit / 2 * (
      (turn * 0.6180339887498949::float8 - extract(epoch from since + idle_limit / 10)::float8 / extract(epoch from idle_limit / 2)::float8)
      - floor(turn * 0.6180339887498949::float8 - extract(epoch from since + idle_limit / 10)::float8 / extract(epoch from idle_limit / 2)::float8))
  $$;

create table connection (
  id bigint generated always as identity primary key,
  environment_id integer not null references environment on delete cascade,
  integration_id bigint not null references integration on delete cascade,
  credential_id uuid not null references credential on delete cascade,
  connection_id text not null,
  end_user jsonb,
  organization jsonb,
  tags jsonb not null default '{}',
  metadata jsonb,
  webhook_url_override text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  last_fetched_at timestamptz,
  unique (integration_id, connection_id)
);
create index connection_newest on connection (environment_id, id desc);
create index connection_by_credential on connection (credential_id);
create index connection_by_end_user on connection (environment_id, (end_user ->> 'id'));

-- Tokens on their way to being ended at the provider: written in the transaction that ends the connection, erased when the job is done.
-- The rest of the row stays as the receipt. It refers to no integration and no connection, because it outlives both.
create table revocation (
  id uuid primary key,
  environment_id integer not null references environment on delete cascade,
  integration_id bigint not null,
  provider_config_key text not null,
  provider text not null,
  credential_id uuid not null,
  -- every connection that stood on the grant
  connection_ids text[] not null,
  reason text,
  -- the tokens, and the OAuth client they were issued to
  sealed bytea,
  sealed_key bytea generated always as (substring(sealed from 2 for 8)) stored references data_key,
  config jsonb not null default '{}',
  -- set when a refresh was under way: until then its answer may still turn up, so nothing can be said for certain
  quiet_until timestamptz,
  created_at timestamptz not null default now(),
  next_try_at timestamptz not null default now(),
  lease_until timestamptz,
  tries integer not null default 0,
  result text check (result in ('revoked', 'unverified', 'already_dead', 'not_offered', 'given_up')),
  verified_at timestamptz,
  ended_at timestamptz,
  check ((ended_at is null) = (sealed is not null)),
  check (ended_at is null or result is not null)
);
-- Receipts stay, their tokens do not.
create index revocation_by_key on revocation (sealed_key, id) where sealed_key is not null;
create index revocation_due on revocation (next_try_at) where ended_at is null;
create index revocation_newest on revocation (environment_id, created_at desc);
create index revocation_by_connection on revocation using gin (connection_ids);
create index revocation_by_credential on revocation (credential_id);

create table connect_session (
  id bigint generated always as identity primary key,
  environment_id integer not null references environment on delete cascade,
  token_lookup bytea not null unique,
  end_user jsonb,
  organization jsonb,
  allowed_integrations text[] not null default '{}',
  integration_defaults jsonb not null default '{}',
  overrides jsonb not null default '{}',
  tags jsonb not null default '{}',
  webhook_url_override text,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null
);
create index connect_session_by_expiry on connect_session (expires_at);

-- One sign-in under way at a provider. Taken by one DELETE … RETURNING, so its code can be presented once.
create table handshake (
  state_hash bytea primary key check (length(state_hash) = 32),
  environment_id integer not null references environment on delete cascade,
  integration_id bigint not null references integration on delete cascade,
  connect_session_id bigint not null references connect_session on delete cascade,
  connection_id text not null,
  browser_hash bytea not null check (length(browser_hash) = 32),
  verifier_sealed bytea,
  verifier_key bytea generated always as (substring(verifier_sealed from 2 for 8)) stored references data_key,
  redirect_uri text not null,
  config jsonb not null default '{}',
  scopes_requested text[] not null default '{}',
  created_at timestamptz not null default now(),
  expires_at timestamptz not null
);
create index handshake_by_expiry on handshake (expires_at);

-- Who works on jobs (graphile_worker, which has a schema of its own): a process that stopped saying so is dead, and its jobs are free again.
create table job_worker (
  id text primary key,
  seen_at timestamptz not null
);
