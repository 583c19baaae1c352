/** Numbered migrations: each runs once, in order, in a transaction of its own. Never change one that has shipped; add one. */
export const migrations: readonly string[] = [
  `
  create table sandboxes (
    id text primary key,
    owner text not null,
    version integer not null,
    state text not null check (state in ('creating', 'running', 'stopped', 'deleting', 'ended')),
    end_json text,
    runtime text not null,
    name text not null,
    image text not null,
    agent_identifier text not null,
    cpu_cores real not null,
    memory_mb integer not null,
    disk_gb integer not null,
    pids integer not null,
    ports_json text not null,
    metadata_json text not null,
    capabilities_json text not null,
    idle_timeout_seconds integer not null,
    max_lifetime_seconds integer not null,
    call_id integer not null,
    socket_path text,
    env_sealed text,
    secrets_sealed text,
    created_at integer not null,
    last_activity_at integer not null,
    stopped_at integer
  ) strict;
  create index sandboxes_by_owner on sandboxes (owner, created_at desc, id desc);
  create index sandboxes_by_state on sandboxes (state);

  create table provisions (
    call_id integer primary key autoincrement,
    owner text not null,
    sandbox_id text not null,
    is_public integer not null,
    phase text not null,
    message text,
    started_at integer not null,
    updated_at integer not null
  ) strict;
  create index provisions_by_owner on provisions (owner, call_id desc);

  create table events (
    seq integer primary key autoincrement,
    sandbox_id text not null,
    owner text not null,
    type text not null,
    at integer not null,
    data_json text not null
  ) strict;
  create index events_by_owner on events (owner, seq);
  create index events_by_sandbox on events (sandbox_id, seq);

  create table idempotency_keys (
    owner text not null,
    key text not null,
    fingerprint text not null,
    sandbox_id text not null,
    created_at integer not null,
    primary key (owner, key)
  ) strict;

  create table api_keys (
    id text primary key,
    hash text not null unique,
    name text not null,
    scope text not null,
    owner text not null,
    created_at integer not null,
    last_used_at integer,
    expires_at integer
  ) strict;
  create index api_keys_by_owner on api_keys (owner);

  create table revoked_sessions (
    id text primary key,
    expires_at integer not null
  ) strict;

  create table settings (
    name text primary key,
    value text not null
  ) strict;
  `,
  `
  create table image_probes (
    runtime text not null,
    image text not null,
    image_id text not null,
    probed_at integer not null,
    harnesses_json text not null,
    problems_json text not null,
    primary key (runtime, image)
  ) strict;
  `,

  // Every owner that has sandboxes gets a default service, and they belong to it.
  `
  create table services (
    id integer primary key autoincrement,
    owner text not null,
    name text not null,
    members_json text not null,
    mode text not null,
    quotas_json text not null,
    is_default integer not null,
    created_at integer not null
  ) strict;
  create index services_by_owner on services (owner);
  create unique index default_services on services (owner) where is_default = 1;

  create table provider_keys (
    service_id integer not null references services (id) on delete cascade,
    provider text not null,
    custom_json text,
    sealed text not null,
    last_four text not null,
    created_at integer not null,
    last_used_at integer,
    primary key (service_id, provider)
  ) strict;

  insert into services (owner, name, members_json, mode, quotas_json, is_default, created_at)
    select owner, 'default', '[]', 'cloud',
           '{"sandboxes":0,"cpu_cores":0,"memory_mb":0,"disk_gb":0,"runs":0,"tokens_per_day":0,"spend_per_day_usd":0}',
           1, min(created_at)
      from sandboxes group by owner order by min(created_at);
  alter table sandboxes add column service_id integer not null default 0;
  update sandboxes set service_id = (select id from services where services.owner = sandboxes.owner);
  create index sandboxes_by_service on sandboxes (service_id);
  `,

  // A key takes those that it made with it.
  `
  alter table api_keys add column made_by text;
  create index api_keys_by_maker on api_keys (made_by) where made_by is not null;
  `,

  // What ended is forgotten some days later.
  `
  alter table sandboxes add column ended_at integer;
  update sandboxes set ended_at = coalesce((select max(at) from events where sandbox_id = sandboxes.id), last_activity_at)
    where state = 'ended';
  create index ended_sandboxes on sandboxes (ended_at) where state = 'ended';
  create index provisions_by_sandbox on provisions (sandbox_id);
  create index idempotency_keys_by_sandbox on idempotency_keys (sandbox_id);
  create table forgotten_events (
    owner text primary key,
    seq integer not null
  ) strict;
  `,

  // The usage of models. Totals are counted before a call, rows after it.
  `
  update services set quotas_json = json_set(quotas_json, '$.requests_per_day', 0);
  alter table provider_keys add column models_json text not null default '[]';
  create table usage_totals (
    day text not null,
    service_id integer not null,
    requests integer not null,
    tokens integer not null,
    spend real not null,
    primary key (day, service_id)
  ) strict;
  create table usage (
    day text not null,
    service_id integer not null,
    sandbox_id text not null,
    owner text not null,
    run_id text not null,
    provider text not null,
    model text not null,
    requests integer not null,
    failed integer not null,
    estimated integer not null,
    input integer not null,
    output integer not null,
    cached integer not null,
    cost_usd real not null,
    unpriced integer not null,
    primary key (day, service_id, sandbox_id, run_id, provider, model)
  ) strict;
  create index usage_by_sandbox on usage (sandbox_id);
  create index usage_by_owner on usage (owner);
  `,

  // What a sandbox may reach. Nothing that was sealed for it outlives it.
  `
  create table sandbox_egress (
    sandbox_id text primary key references sandboxes (id) on delete cascade,
    policy_json text,
    authority_sealed text
  ) strict;
  create trigger sandbox_egress_end after update of state on sandboxes when new.state = 'ended' begin
    update sandbox_egress set authority_sealed = null where sandbox_id = new.id;
  end;
  `,

  // Keys that are logins.
  `
  alter table provider_keys add column kind text not null default 'key';
  `,

  // The audit log, and its end, authenticated with a key that is not in here.
  `
  create table audit (
    seq integer primary key,
    at integer not null,
    actor_owner text not null,
    actor_via text not null,
    actor_id text not null,
    action text not null,
    subject text not null,
    owner text not null,
    outcome text not null,
    client text not null,
    count integer not null,
    detail_json text not null,
    prev text not null,
    hash text not null
  ) strict;
  create index audit_by_owner on audit (owner, seq);
  create index audit_by_actor on audit (actor_owner, seq);
  create table audit_head (
    one integer primary key check (one = 1),
    seq integer not null,
    hash text not null,
    key_id text not null,
    mac text not null
  ) strict;
  `,

  // Sandboxes can be paused. A column's check cannot be changed, so the column is made anew.
  `
  drop trigger sandbox_egress_end;
  drop index sandboxes_by_state;
  drop index ended_sandboxes;
  alter table sandboxes add column new_state text not null default 'ended'
    check (new_state in ('creating', 'running', 'paused', 'stopped', 'deleting', 'ended'));
  update sandboxes set new_state = state;
  alter table sandboxes drop column state;
  alter table sandboxes rename column new_state to state;
  create index sandboxes_by_state on sandboxes (state);
  create index ended_sandboxes on sandboxes (ended_at) where state = 'ended';
  create trigger sandbox_egress_end after update of state on sandboxes when new.state = 'ended' begin
    update sandbox_egress set authority_sealed = null where sandbox_id = new.id;
  end;
  alter table sandboxes add column idle_action text not null default 'stop' check (idle_action in ('stop', 'pause'));
  alter table sandboxes add column auto_resume integer not null default 0;
  `,

  // Copies of disks, and forks that are not over.
  `
  create table snapshots (
    id text primary key,
    owner text not null,
    sandbox_id text not null,
    service_id integer not null,
    name text not null,
    state text not null check (state in ('creating', 'ready', 'failed')),
    error_json text,
    template_json text not null,
    key_sealed text not null,
    size_bytes integer not null,
    created_at integer not null,
    idempotency_key text,
    fingerprint text
  ) strict;
  create index snapshots_by_owner on snapshots (owner, created_at desc, id desc);
  create unique index snapshots_by_key on snapshots (owner, idempotency_key) where idempotency_key is not null;
  create table forks (
    id text primary key,
    sandbox_id text not null,
    made_json text not null
  ) strict;
  `,

  // Secrets that are put into requests on their way out.
  `
  alter table sandbox_egress add column bindings_sealed text;
  create trigger sandbox_bindings_end after update of state on sandboxes when new.state = 'ended' begin
    update sandbox_egress set bindings_sealed = null where sandbox_id = new.id;
  end;
  `,
]
