-- A user is known from their first conversation, memory or document on; the profile is what they or their team set.
-- One who is being erased has no user_id any more, so that nobody finds them, and erased_user_id in its place.
create table users (
  n integer primary key,
  workspace_id text not null references workspaces (id),
  user_id text,
  erased_user_id text,
  display_name text,
  language text,
  timezone text,
  instructions text,
  metadata text not null default '{}',
  created_at integer not null,
  updated_at integer not null,
  unique (workspace_id, user_id)
) strict;

create index users_erased on users (workspace_id, erased_user_id) where user_id is null;

insert into users (workspace_id, user_id, created_at, updated_at)
  select workspace_id, user_id, min(created_at), min(created_at) from conversations group by workspace_id, user_id;

-- The summary covers all messages up to summary_through_seq. What is deleted is erased bit by bit: see erase-writes.ts.
alter table conversations add column user_n integer references users (n);
alter table conversations add column summary text not null default '';
alter table conversations add column summary_tokens integer not null default 0;
alter table conversations add column summary_through_seq integer not null default 0;
alter table conversations add column deleted integer not null default 0;
update conversations set user_n = (select n from users u
  where u.workspace_id = conversations.workspace_id and u.user_id = conversations.user_id);
create index conversations_by_user_n on conversations (user_n);
create index conversations_deleted on conversations (n) where deleted = 1;

-- receipt holds JSON; a turn is to be remembered from its end until its memories are drawn.
alter table turns add column receipt text;
alter table turns add column use_memory integer not null default 1;
alter table turns add column to_remember integer not null default 0;
create index turns_to_remember on turns (n) where to_remember = 1;

-- A memory about the same slot ("home", "name") supersedes the one before, which is kept until the cap drops it.
create table memories (
  n integer primary key,
  id text not null unique,
  user_n integer not null references users (n) on delete cascade,
  text text not null,
  kind text not null check (kind in ('fact', 'preference', 'instruction', 'event')),
  slot text,
  tokens integer not null,
  source_message_id text,
  superseded_by text,
  uses integer not null default 0,
  used_at integer,
  created_at integer not null,
  updated_at integer not null
) strict;

create index memories_by_user on memories (user_n, n);

-- words are what a search for conversations goes through. terms are what recall goes through: the stem of each word,
-- with the code of the user before it, so that a look-up goes through one user's messages alone; of messages from
-- before, the words themselves. scope has that code, too; both are empty where the turn was not to be remembered.
create virtual table message_index using fts5 (scope, words, terms, columnsize = 0, tokenize = "unicode61 remove_diacritics 0 categories 'L* M* N* Co'");
insert into message_index (message_index, rank) values ('secure-delete', 1);
insert into message_index (rowid, scope, words, terms)
  select n, code, words, case words when '' then '' else code || replace(words, ' ', ' ' || code) end from (
    select w.rowid as n, w.words, length(printf('%d', c.user_n)) || printf('%d', c.user_n) as code
    from message_words w join messages m on m.n = w.rowid join conversations c on c.n = m.conversation_n);
drop table message_words;

-- Documents of a workspace that are everybody's (without a user_n) or of one user. Numbers are not used again.
create table document_scopes (
  n integer primary key autoincrement,
  workspace_id text not null references workspaces (id),
  user_n integer references users (n) on delete cascade
) strict;

create unique index document_scopes_by_owner on document_scopes (workspace_id, coalesce(user_n, 0));

-- A document is what stands under a name; its text is that of its newest ready revision, so that a new one takes the
-- place of the old in one step, and no search sees both.
create table documents (
  n integer primary key,
  id text not null unique,
  workspace_id text not null references workspaces (id),
  user_n integer references users (n) on delete cascade,
  scope_n integer not null references document_scopes (n) on delete cascade,
  collection text not null,
  name text not null,
  revision_n integer,
  created_at integer not null,
  updated_at integer not null
) strict;

create unique index documents_by_name on documents (scope_n, collection, name);
create index documents_by_age on documents (workspace_id, updated_at, id);

-- The bytes as they came are in a file of the revision's id under uploads, until the text is made of them. scope holds
-- the words that its passages have in theirs. A revision without a document is waste that is cleared away in the background.
create table document_revisions (
  n integer primary key,
  id text not null unique,
  document_n integer references documents (n) on delete set null,
  version integer not null,
  status text not null check (status in ('processing', 'ready', 'failed')),
  scope text not null,
  media_type text not null,
  metadata text not null,
  content_hash text not null,
  bytes integer not null,
  progress real not null default 0,
  length integer not null default 0,
  passage_count integer not null default 0,
  error_code text,
  error_message text,
  created_at integer not null,
  ended_at integer
) strict;

create index document_revisions_by_document on document_revisions (document_n, n);
create index document_revisions_unfinished on document_revisions (n) where status = 'processing';

-- A document's text in parts, because one value of many mebibytes would hold up all other writes.
create table document_parts (
  revision_n integer not null references document_revisions (n) on delete cascade,
  start integer not null,
  text text not null,
  primary key (revision_n, start)
) strict, without rowid;

create table passages (
  n integer primary key,
  revision_n integer not null references document_revisions (n) on delete cascade,
  seq integer not null,
  start integer not null,
  end integer not null,
  heading text not null,
  text text not null,
  tokens integer not null,
  unique (revision_n, seq)
) strict;

-- Each word begins with the code of the document's scope. scope has that code, and tokens of the collection and of each
-- pair of metadata.
create virtual table passage_index using fts5 (scope, heading, words, stems, columnsize = 0, tokenize = "unicode61 remove_diacritics 0 categories 'L* M* N* Co'");
insert into passage_index (passage_index, rank) values ('secure-delete', 1);

-- Vectors are derived from texts, by an embedding model; only those of one space, of one model and length, compare.
-- vector has 8-bit integers, code a bit for each: on which side of the space's center it is, which is enough to find the
-- few that are worth comparing exactly. Both are null where the model refuses the text. The indexes hold all that this
-- search goes through.
create table vector_spaces (
  n integer primary key,
  model text not null,
  dimensions integer not null,
  unique (model, dimensions)
) strict;

create table message_vectors (
  n integer primary key references messages (n) on delete cascade,
  space_n integer not null references vector_spaces (n),
  user_n integer not null references users (n) on delete cascade,
  code blob,
  vector blob
) strict;

create index message_codes on message_vectors (user_n, space_n, n, code);

create table memory_vectors (
  n integer primary key references memories (n) on delete cascade,
  space_n integer not null references vector_spaces (n),
  vector blob
) strict;

create trigger memories_reworded after update of text on memories when new.text <> old.text begin
  delete from memory_vectors where n = new.n;
end;

create table passage_vectors (
  n integer primary key references passages (n) on delete cascade,
  space_n integer not null references vector_spaces (n),
  revision_n integer not null references document_revisions (n) on delete cascade,
  code blob,
  vector blob
) strict;

create index passage_codes on passage_vectors (revision_n, space_n, n, code);
