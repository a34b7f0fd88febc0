-- The ledger: a row for each turn, from its start on, and for each request to a model in the background. Rows outlive
-- the conversations they tell of; when a user is erased, user_n and conversation_id are taken out of theirs.
-- The cost is null where the model has no price; key_id is null where nobody knows any more.
create table usage (
  n integer primary key,
  kind text not null check (kind in ('turn', 'memory', 'summary')),
  workspace_id text not null,
  user_n integer references users (n),
  key_id text,
  conversation_id text,
  model text not null,
  status text not null,
  prompt_tokens integer not null default 0,
  cached_tokens integer not null default 0,
  completion_tokens integer not null default 0,
  reasoning_tokens integer not null default 0,
  total_tokens integer not null default 0,
  estimated integer not null default 1,
  cost_nano_usd integer,
  first_token_ms integer,
  duration_ms integer,
  reserved_tokens integer not null default 0,
  reserved_nano_usd integer not null default 0,
  created_at integer not null
) strict;

create index usage_by_time on usage (workspace_id, created_at);
create index usage_by_user on usage (user_n, created_at) where user_n is not null;

alter table turns add column usage_n integer;

-- Turns from before have their rows too, so that the sums are those of all turns there are.
insert into usage (n, kind, workspace_id, user_n, conversation_id, model, status, prompt_tokens, completion_tokens,
    total_tokens, estimated, created_at)
  select t.n, 'turn', c.workspace_id, c.user_n, c.id, m.model, t.status, t.prompt_tokens, t.completion_tokens,
    t.total_tokens, t.usage_estimated, t.created_at
  from turns t join messages m on m.n = t.n join conversations c on c.n = m.conversation_n;
update turns set usage_n = n;

-- What an admin set for one user, key or workspace; limits holds JSON, and what it doesn't name is as configured.
create table budgets (
  workspace_id text not null,
  scope text not null check (scope in ('user', 'key', 'workspace')),
  subject text not null,
  limits text not null,
  created_at integer not null,
  updated_at integer not null,
  primary key (workspace_id, scope, subject)
) strict, without rowid;

-- What was spent and is reserved in a day (2026-11-24) or month (2026-11) of UTC. scope stands for whose it is without
-- naming them, so that who has themselves erased gets no new budget by it; its day and month lie together, because each
-- turn counts in both.
create table budget_counters (
  scope text not null,
  period text not null,
  used_tokens integer not null,
  used_nano_usd integer not null,
  reserved_tokens integer not null,
  reserved_nano_usd integer not null,
  primary key (scope, period)
) strict, without rowid;
