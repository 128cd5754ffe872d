-- Nothing secret stands in a plain column: `*_sealed` is AES-256-GCM (vault/), `*_lookup` and `*_hash` are keyed or plain hashes
-- of random values. Instants are compared by the database's clock_timestamp(), never by a process's clock.

-- What belongs to the whole installation: the sealed pepper of every keyed hash, and the value that proves the key is the right one.
create table setting (
  name text primary key,
  sealed bytea not null
);

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
  created_at timestamptz not null default now()
);
create index credential_open_intent on credential (intent_at) where intent_claim is not null and gone_at is null;
-- One grant has one owner of its refresh token.
create unique index credential_one_grant on credential (integration_id, token_fp) where gone_at is null and token_fp is not null;

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
  redirect_uri text not null,
  config jsonb not null default '{}',
  scopes_requested text[] not null default '{}',
  created_at timestamptz not null default now(),
  expires_at timestamptz not null
);
create index handshake_by_expiry on handshake (expires_at);
