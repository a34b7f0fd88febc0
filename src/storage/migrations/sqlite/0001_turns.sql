-- n is what tables and indexes refer to inside, id what clients see.
-- Times are unix seconds, but for last_active_ms, which orders conversations: two turns a second are common.
-- metadata, sources, citations and memories_used hold JSON.

create table workspaces (
  id text primary key,
  name text not null,
  created_at integer not null
) strict, without rowid;

insert into workspaces (id, name, created_at) values ('default', 'default', unixepoch());

create table settings (
  name text primary key,
  value text not null
) strict, without rowid;

insert into settings (name, value) values ('ticket_secret', hex(randomblob(32)));

create table conversations (
  n integer primary key,
  id text not null unique,
  workspace_id text not null references workspaces (id),
  user_id text not null,
  title text,
  metadata text not null,
  message_count integer not null default 0,
  tokens_used integer not null default 0,
  active_turn_id text,
  created_at integer not null,
  updated_at integer not null,
  last_active_ms integer not null
) strict;

create index conversations_by_user on conversations (workspace_id, user_id, last_active_ms, id);
create index conversations_by_activity on conversations (workspace_id, last_active_ms, id);

-- The text of a turn's reply stands in its message alone, while it runs (the last checkpoint) and after.
create table messages (
  n integer primary key,
  id text not null,
  conversation_n integer not null references conversations (n) on delete cascade,
  turn_id text not null,
  seq integer not null,
  role text not null check (role in ('user', 'assistant')),
  content text not null,
  status text not null,
  model text,
  sources text not null default '[]',
  citations text not null default '[]',
  tokens integer not null,
  created_at integer not null,
  unique (conversation_n, seq)
) strict;

-- A turn has the n of its reply's message, so that neither needs an index to find the other.
create table turns (
  n integer primary key references messages (n) on delete cascade,
  id text not null unique,
  user_message_n integer not null,
  status text not null,
  model text not null,
  finish_reason text,
  memories_used text not null default '[]',
  prompt_tokens integer not null default 0,
  completion_tokens integer not null default 0,
  total_tokens integer not null default 0,
  usage_estimated integer not null default 1,
  error_code text,
  error_message text,
  instance_id text not null,
  lease_until integer not null,
  created_at integer not null,
  ended_at integer
) strict;

create index turns_running on turns (lease_until) where status = 'running';

create table idempotency_keys (
  principal_id text not null,
  operation text not null,
  key text not null,
  body_hash text not null,
  resource_id text not null,
  created_at integer not null,
  primary key (principal_id, operation, key)
) strict, without rowid;

create index idempotency_keys_by_age on idempotency_keys (created_at);
create index idempotency_keys_by_resource on idempotency_keys (resource_id);

-- A turn's messages are indexed at its end; a title only where it was given, because one made from a message holds no
-- words but the message's. Both hold words as words.ts cuts them, so that scripts without spaces are found too; rowid is the n of the source.
create virtual table message_words using fts5 (words, columnsize = 0, tokenize = "unicode61 remove_diacritics 0 categories 'L* M* N* Co'");
create virtual table title_words using fts5 (words, columnsize = 0, tokenize = "unicode61 remove_diacritics 0 categories 'L* M* N* Co'");
insert into message_words (message_words, rank) values ('secure-delete', 1);
insert into title_words (title_words, rank) values ('secure-delete', 1);
