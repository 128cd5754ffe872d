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
  created_at timestamptz not null default now(),
  -- what its owner has decided (/environment/settings)
  webhook_url text,
  webhook_url_secondary text,
  on_auth_creation boolean not null default true,
  on_auth_refresh_error boolean not null default true,
  on_connection_health boolean not null default true,
  on_connection_lifecycle boolean not null default true,
  allowed_origins text[] not null default '{}',
  return_urls text[] not null default '{}',
  confirm_connections boolean not null default false,
  -- null: unlimited
  requests_per_minute integer check (requests_per_minute > 0),
  -- what of its connect page's looks differs from ours
  connect_ui jsonb not null default '{}'
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

-- What webhooks are signed with. One that was replaced signs beside its successor until `retires_at`.
create table webhook_key (
  id uuid primary key,
  environment_id integer not null references environment on delete cascade,
  sealed bytea not null,
  sealed_key bytea generated always as (substring(sealed from 2 for 8)) stored references data_key,
  created_at timestamptz not null default clock_timestamp(),
  -- null: the current one
  retires_at timestamptz
);
create unique index webhook_key_one_current on webhook_key (environment_id) where retires_at is null;
create index webhook_key_by_key on webhook_key (sealed_key, id);

create table api_key (
  id bigint generated always as identity primary key,
  environment_id integer not null references environment on delete cascade,
  display_name text not null,
  lookup bytea not null unique check (length(lookup) = 32),
  scopes text[] not null,
  created_at timestamptz not null default now(),
  expires_at timestamptz,
  -- to the minute
  last_used_at timestamptz,
  requests_per_minute integer check (requests_per_minute > 0),
  unique (environment_id, display_name)
);

-- Requests by key, environment or address in one minute, summed over all servers. Counts of the last two minutes: nothing is lost with them.
create unlogged table request_count (
  name text not null,
  minute integer not null,
  n bigint not null,
  primary key (name, minute)
);

-- Who signs in to the dashboard. What a role may do: account/operator/roles.ts.
create table operator (
  id integer generated always as identity primary key,
  email text not null unique check (email = lower(email)),
  name text not null,
  role text not null check (role in ('owner', 'admin', 'viewer')),
  -- scrypt with its parameters and salt; null: signs in with OpenID Connect alone
  password_hash text,
  totp_sealed bytea,
  totp_key bytea generated always as (substring(totp_sealed from 2 for 8)) stored references data_key,
  totp_on boolean not null default false,
  -- the time step of the last code: a code works once (RFC 6238 §5.2)
  totp_step bigint not null default 0,
  -- issuer and subject, from the first sign-in with OpenID Connect on: an e-mail address may change hands there
  oidc_subject text unique,
  created_at timestamptz not null default now(),
  signed_in_at timestamptz
);

create table operator_session (
  lookup bytea primary key check (length(lookup) = 32),
  operator_id integer not null references operator on delete cascade,
  created_at timestamptz not null default clock_timestamp(),
  seen_at timestamptz not null default clock_timestamp(),
  -- when its owner last showed who they are
  confirmed_at timestamptz not null default clock_timestamp(),
  ends_at timestamptz not null
);
create index operator_session_by_operator on operator_session (operator_id);
create index operator_session_by_end on operator_session (ends_at);

-- Links that work once: to make the first operator, an invited one, or to choose a new password.
create table operator_link (
  lookup bytea primary key check (length(lookup) = 32),
  email text,
  role text check (role in ('owner', 'admin', 'viewer')),
  operator_id integer references operator on delete cascade,
  ends_at timestamptz not null
);

-- Sign-ins under way at the identity provider. What has to stay secret of one is made from its browser's cookie (account/operator/oidc.ts).
create table operator_handshake (
  lookup bytea primary key check (length(lookup) = 32),
  -- of the link somebody brought along
  link bytea,
  -- whether it shows again who is there, rather than who comes
  confirms boolean not null,
  ends_at timestamptz not null
);

-- Sign-ins that failed, in the database so that several servers count together. Kept for an hour.
create table sign_in_failure (
  at timestamptz not null default clock_timestamp(),
  email text not null,
  address text not null
);
create index sign_in_failure_by_email on sign_in_failure (email, at);
create index sign_in_failure_by_address on sign_in_failure (address, at);

-- Who changed what, written in the transaction of the change. Each row's hash covers the row before it (audit/), so a row that was altered or
-- taken out is found; `audit_head` is the end of the chain, and its lock the order of the rows. It refers to nothing: it outlives everything.
create table audit_head (
  sequence bigint not null,
  hash bytea not null
);
insert into audit_head values (0, '');
create table audit (
  sequence bigint primary key,
  at timestamptz not null,
  -- null: the installation
  environment text,
  actor_kind text not null,
  actor_id text not null,
  actor_name text not null,
  address text,
  action text not null,
  target text not null,
  detail jsonb not null,
  hash bytea not null
);
create index audit_by_environment on audit (environment, sequence);
create index audit_by_action on audit (action, sequence);

-- Where the chain begins when its oldest rows were let go: the last of them, with a keyed mark, so that nobody but a server can say so.
create table audit_start (
  sequence bigint not null,
  hash bytea not null,
  mark bytea not null
);

create function audit_stays() returns trigger language plpgsql as $$
begin
  if tg_op = 'DELETE' and current_setting('fairlead.audit_let_go', true) = 'on' then return null; end if;
  raise exception 'the audit trail is only added to';
end
$$;
create trigger audit_stays before update or delete or truncate on audit for each statement execute function audit_stays();

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
  -- what the developer sets once for all connections (integration_config), and how a provider is reached (custom)
  settings_sealed bytea,
  settings_key bytea generated always as (substring(settings_sealed from 2 for 8)) stored references data_key,
  forward_webhooks boolean not null default true,
  -- both bodies of its calls are kept for a day, redacted and sealed (activity)
  capture_bodies boolean not null default false,
  -- where Base-Url-Override may lead; empty means that it is off
  base_url_hosts text[] not null default '{}',
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
  -- whose account it is, by the facts the provider tells; null where it tells none
  account text,
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
  -- what the provider said with it: its error and its description, without anything that was sent to it
  said text[],
  -- moved by people only; separate from health so that a save cannot undo them
  paused boolean not null default false,
  -- when the state people see began; kept by a trigger, because many statements move it and none may forget
  state_since timestamptz not null default clock_timestamp(),
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
-- What people look for: the few that are not simply active. Among a million a list of them took 320 ms without it. What the list asks of a grant
-- is in it, as what it asks of a connection is in connection_by_credential: no row is read that is not shown (10,000 of a million: 85 ms for
-- 250), and none to count them (20,000: 5 ms for 200).
create index credential_by_state on credential ((case when paused then 'paused' else health end)) include (id, paused, health, gone_at)
  where paused or health <> 'active';
-- One grant has one owner of its refresh token.
create unique index credential_one_grant on credential (integration_id, token_fp) where gone_at is null and token_fp is not null;
create index credential_by_account on credential (account) where account is not null and gone_at is null;
create index credential_tombstones on credential (gone_at) where gone_at is not null;

-- What came of attempts at renewing tokens, by hour: to count the grants themselves, the table would be read whole.
create table renewal_count (
  environment_id integer not null references environment on delete cascade,
  hour timestamptz not null,
  outcome text not null check (outcome in ('renewed', 'refused', 'unavailable')),
  n bigint not null,
  primary key (environment_id, hour, outcome)
);

create function credential_state_began() returns trigger language plpgsql as $$
begin
  new.state_since := clock_timestamp();
  return new;
end
$$;
-- A pause hides the health beneath it.
create trigger credential_state_began before update on credential for each row
  when ((case when old.paused then 'paused' else old.health end) <> (case when new.paused then 'paused' else new.health end))
  execute function credential_state_began();

-- Refresh tokens that were replaced. One that turns up again is not stored: its successor is here. Kept for 90 days.
create table credential_past (
  integration_id bigint not null references integration on delete cascade,
  token_fp bytea not null,
  credential_id uuid not null references credential on delete cascade,
  replaced_at timestamptz not null default clock_timestamp(),
  primary key (integration_id, token_fp)
);
create index credential_past_by_age on credential_past (replaced_at);
create index credential_past_by_credential on credential_past (credential_id);

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
  -- until then its owner's backend may confirm it; null: it is confirmed, or need not be
  confirm_by timestamptz,
  unique (integration_id, connection_id)
)
-- room for last_fetched_at to be written on the same page: seven indexes need not hear of it
with (fillfactor = 90);
create index connection_unconfirmed on connection (confirm_by) where confirm_by is not null;
create index connection_newest on connection (environment_id, id desc);
create index connection_by_credential on connection (credential_id) include (id, environment_id, integration_id);

-- Where a provider sends its webhooks for one connection. The address ends in 256 random bits, kept as a keyed hash. One that was replaced
-- works beside its successor until `retires_at`.
create table webhook_address (
  id uuid primary key default gen_random_uuid(),
  lookup bytea not null unique check (length(lookup) = 32),
  connection_id bigint not null references connection on delete cascade,
  created_at timestamptz not null default clock_timestamp(),
  -- null: the current one
  retires_at timestamptz,
  -- to the minute; null: nothing that was taken ever came
  received_at timestamptz
);
create unique index webhook_address_one_current on webhook_address (connection_id) where retires_at is null;
create index webhook_address_by_connection on webhook_address (connection_id);
create index connection_by_end_user on connection (environment_id, (end_user ->> 'id'));
create index connection_by_organization on connection (environment_id, (organization ->> 'id'));
create index connection_by_tags on connection using gin (tags jsonb_path_ops);

-- Tokens on their way to being ended at the provider: written in the transaction that ends or replaces them, erased when the job is done.
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
  -- what became of the connection: gone, signed in to again, or nothing, because the sign-in was refused
  state text not null default 'deleted' check (state in ('deleted', 'reconnected', 'refused')),
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
create index revocation_by_end on revocation (ended_at) where ended_at is not null;

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
  -- the one connection this session may sign in to again; without it the session makes new ones
  reconnects bigint references connection on delete cascade,
  -- and the owner wants another account in the place of the one it has
  another_account boolean not null default false,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null
);
create index connect_session_by_expiry on connect_session (expires_at);
create index connect_session_by_connection on connect_session (reconnects) where reconnects is not null;

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
  -- the ws_client_id it was begun with: what its end is told under
  attempt uuid,
  -- the page that opened it, as its WebSocket's handshake named it
  opener_origin text,
  -- where the browser goes in the end
  return_url text,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null
);
create index handshake_by_expiry on handshake (expires_at);

-- What became of each sign-in of a session: read by whoever lost the socket it was told on. Goes with its session.
create table connect_result (
  id bigint generated always as identity primary key,
  connect_session_id bigint not null references connect_session on delete cascade,
  attempt uuid,
  provider_config_key text not null,
  connection_id text,
  -- null when it failed, and then `error` says why
  operation text check (operation in ('creation', 'override')),
  is_pending boolean not null default false,
  account jsonb,
  -- asked for and not granted
  missing_scopes text[] not null default '{}',
  error jsonb,
  at timestamptz not null default clock_timestamp(),
  check ((operation is null) = (error is not null))
);
create index connect_result_by_session on connect_result (connect_session_id, id desc);
create index connect_result_by_attempt on connect_result (attempt) where attempt is not null;

-- Who works on jobs (graphile_worker, which has a schema of its own): a process that stopped saying so is dead, and its jobs are free again.
create table job_worker (
  id text primary key,
  seen_at timestamptz not null
);

-- What happened to a connection, told to the receivers of its environment. Rows are made by the triggers below, in the transaction of the
-- change itself. `about` is the connection as it was then: it may be gone when the event is delivered.
create table webhook_event (
  -- For one connection, a later change has a higher number: it is drawn while the connection's row is locked.
  sequence bigint generated always as identity primary key,
  id uuid not null unique default gen_random_uuid(),
  environment_id integer not null references environment on delete cascade,
  name text not null,
  connection_id text,
  provider_config_key text,
  about jsonb not null default '{}',
  -- Of a provider's webhook that is sent on: its own id for it, and what it said. Sealed, because it is a customer's data.
  source text,
  payload_sealed bytea,
  payload_key bytea generated always as (substring(payload_sealed from 2 for 8)) stored references data_key,
  created_at timestamptz not null default clock_timestamp()
);
create index webhook_event_by_connection on webhook_event (environment_id, connection_id);
-- A provider that did not get our answer sends the same again. Known for as long as the event is kept: 30 days at least.
create unique index webhook_event_once on webhook_event (environment_id, provider_config_key, connection_id, source) where source is not null;
create index webhook_event_by_key on webhook_event (payload_key, id) where payload_key is not null;

-- One event on its way to one receiver: the URL an environment calls primary or secondary, as it is when it is tried, or a connection's own.
create table webhook_delivery (
  id uuid primary key default gen_random_uuid(),
  -- Not a foreign key: a pause or kill of thousands writes thousands of rows in one statement, and each would be looked up again, with a
  -- plan a session may have made while the table was empty (5,000 took 9 to 29 s, and 3 s without). Events are deleted after their deliveries.
  event bigint not null,
  environment_id integer not null references environment on delete cascade,
  receiver text not null,
  state text not null default 'pending' check (state in ('pending', 'delivered', 'failed')),
  tries integer not null default 0,
  -- Tried from here on; moved by a replay.
  since timestamptz not null default clock_timestamp(),
  next_try_at timestamptz not null default clock_timestamp(),
  ended_at timestamptz,
  check ((state = 'pending') = (ended_at is null))
);
create index webhook_delivery_due on webhook_delivery (environment_id, receiver, next_try_at) where state = 'pending';
create index webhook_delivery_newest on webhook_delivery (environment_id, event, id);
create index webhook_delivery_by_event on webhook_delivery (event);
create index webhook_delivery_ended on webhook_delivery (state, ended_at) where ended_at is not null;

create table webhook_attempt (
  delivery uuid not null references webhook_delivery on delete cascade,
  number integer not null,
  at timestamptz not null,
  url text,
  -- null: no answer, and `error` says why
  status integer,
  ms integer not null,
  error text,
  -- the beginning of an answer that was not 2xx, redacted
  answer text,
  primary key (delivery, number)
);

-- Which process is serving a receiver just now. A row lives as long as the turn.
create table webhook_turn (
  environment_id integer not null,
  receiver text not null,
  holder uuid not null,
  until timestamptz not null,
  primary key (environment_id, receiver)
);

-- Where the next rows of a table kept as a ring go: `slot` of its partitions, in use since `since`. The oldest slot is emptied when its
-- turn comes again, by TRUNCATE, which costs the same however full it is (activity/store.ts: how many, how old, how big).
create table activity_ring (
  name text primary key,
  slot smallint not null default 0,
  since timestamptz not null default clock_timestamp()
);
insert into activity_ring (name) values ('activity'), ('activity_body');

-- One row per call through the proxy. What it names may be gone by now, so it refers to nothing. Never a query, a header or a body; the
-- path is a template, with what may be an id or a secret left out.
create sequence activity_id;
create table activity (
  id bigint not null default nextval('activity_id'),
  slot smallint not null,
  -- when it ended, to the millisecond
  at timestamptz not null,
  environment_id integer not null,
  -- null: an operator, in the dashboard
  api_key_id bigint,
  provider_config_key text not null,
  connection_id text not null,
  method text not null,
  -- null: refused before it was known
  host text,
  path text not null,
  -- null: nothing was answered
  status smallint,
  outcome text not null check (outcome in ('answered', 'refused', 'cut', 'aborted')),
  error text,
  bytes_up bigint not null,
  bytes_down bigint not null,
  -- milliseconds since the call arrived; null: it did not come to that
  sent_ms real,
  first_byte_ms real,
  total_ms real not null,
  retries smallint not null,
  refreshed boolean not null,
  -- the provider's answer held the access token it was asked with
  repeats_token boolean not null default false,
  -- its row in activity_body
  bodies uuid,
  -- what its answer carried; looked for among the newest, without an index that every call would pay for
  request_id text not null default ''
) partition by list (slot);
create index activity_newest on activity (environment_id, at, id);
create index activity_by_connection on activity (environment_id, connection_id, at, id);
create index activity_by_integration on activity (environment_id, provider_config_key, at, id);
create index activity_failed on activity (environment_id, at, id) where outcome <> 'answered' or status >= 400;

-- Bodies of calls on integrations that ask for it. No foreign key to the data key: a retired one opens for longer than a body is kept.
create table activity_body (
  id uuid not null,
  slot smallint not null,
  at timestamptz not null default clock_timestamp(),
  environment_id integer not null,
  sealed bytea not null
) partition by list (slot);
create index activity_body_by_id on activity_body (id);

do $$
begin
  for slot in 0..14 loop execute format('create table activity_%s partition of activity for values in (%s)', slot, slot); end loop;
  for slot in 0..12 loop execute format('create table activity_body_%s partition of activity_body for values in (%s)', slot, slot); end loop;
end $$;

-- Calls that were not written down, because the database was too slow for as many as there were.
create table activity_dropped (
  at timestamptz not null default clock_timestamp(),
  environment_id integer not null,
  calls integer not null
);
create index activity_dropped_by_age on activity_dropped (environment_id, at);

-- Triggers, because every statement that changes a state would otherwise have to read the old one first to know whether it changed
-- anything (RETURNING old needs PostgreSQL 18), and the one that forgot would be silent. They must not fail: they would take a token's
-- installation with them. Nothing is written where nobody listens.
-- `unheard`: nobody is to be told. `known`: this message of a provider was told already.
create function webhook_tell(
  c connection, event text, event_id uuid default gen_random_uuid(), source text default null, payload bytea default null
) returns text language plpgsql as $$
declare
  receivers text[];
  key text;
  about jsonb;
  told bigint;
begin
  select i.unique_key,
    case
      when c.webhook_url_override <> '' then
        case when octet_length(c.webhook_url_override) <= 2048 then array[c.webhook_url_override] else '{}' end
      else array_remove(array[
        case when e.webhook_url is not null then 'primary' end,
        case when e.webhook_url_secondary is not null then 'secondary' end], null)
    end,
    jsonb_build_object('provider', i.provider, 'tags', c.tags, 'end_user', c.end_user, 'organization', c.organization,
      'health', k.health, 'cause', k.cause, 'said', k.said, 'paused', k.paused, 'since', k.state_since)
  into key, receivers, about
  from environment e join integration i on i.id = c.integration_id join credential k on k.id = c.credential_id
  where e.id = c.environment_id and case
    when event = 'connection.created' then e.on_auth_creation
    when event = 'connection.needs_reauth' then e.on_auth_refresh_error
    when event in ('connection.degraded', 'connection.blocked_by_policy', 'connection.recovered') then e.on_connection_health
    when event in ('connection.paused', 'connection.resumed', 'connection.deleted') then e.on_connection_lifecycle
    else true end;
  if coalesce(cardinality(receivers), 0) = 0 then return 'unheard'; end if;

  insert into webhook_event (id, environment_id, name, connection_id, provider_config_key, about, source, payload_sealed)
  values (event_id, c.environment_id, event, c.connection_id, key, about, webhook_tell.source, payload)
  on conflict do nothing returning sequence into told;
  if told is null then return 'known'; end if;
  insert into webhook_delivery (event, environment_id, receiver) select told, c.environment_id, unnest(receivers);
  perform pg_notify('fairlead_changed', 'webhook');
  return 'told';
end $$;

create function webhook_on_connection() returns trigger language plpgsql as $$
begin
  case tg_op
    when 'INSERT' then perform webhook_tell(new, 'connection.created');
    when 'UPDATE' then perform webhook_tell(new, 'connection.reauthorised');
    when 'DELETE' then perform webhook_tell(old, 'connection.deleted');
  end case;
  return null;
end $$;
create trigger webhook_on_change after insert or delete on connection
  for each row execute function webhook_on_connection();
create trigger webhook_on_new_grant after update of credential_id on connection
  for each row when (new.credential_id <> old.credential_id) execute function webhook_on_connection();

create function webhook_on_credential() returns trigger language plpgsql as $$
begin
  perform webhook_tell(c, case
    when new.grant_number <> old.grant_number then 'connection.reauthorised'
    when new.health <> 'active' and (new.health, new.cause) is distinct from (old.health, old.cause) then 'connection.' || new.health
    when new.health <> old.health then 'connection.recovered'
    when new.paused then 'connection.paused'
    else 'connection.resumed' end)
  from connection c where c.credential_id = new.id;
  return null;
end $$;
-- A cause that changes while all is well (a provider was busy for a moment) is nobody's news. `fairlead.untold` is set by a kill while it
-- blocks what it is about to delete: thousands of rows in seconds, each of which is told of as deleted.
create trigger webhook_on_state after update of health, cause, paused, grant_number on credential
  for each row when (new.gone_at is null and current_setting('fairlead.untold', true) is distinct from 'on' and (new.health <> old.health or new.paused <> old.paused
    or new.grant_number <> old.grant_number or (new.health <> 'active' and new.cause is distinct from old.cause)))
  execute function webhook_on_credential();
