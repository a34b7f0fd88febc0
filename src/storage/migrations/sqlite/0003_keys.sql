-- Of a key only the SHA-256 of its text is kept, in hex. A revoked key stays, so that a service that has had a key is
-- never open again. A key of a user who was erased has an empty user_id and name.
create table keys (
  n integer primary key,
  id text not null unique,
  secret_hash text not null unique,
  name text not null,
  workspace_id text not null references workspaces (id),
  role text not null check (role in ('admin', 'service', 'user')),
  user_id text,
  created_at integer not null,
  expires_at integer,
  last_used_at integer,
  revoked_at integer,
  check ((role = 'user') = (user_id is not null))
) strict;

create index keys_by_workspace on keys (workspace_id, id);
create index keys_by_user on keys (workspace_id, user_id) where user_id is not null;
create index keys_revoked on keys (revoked_at) where revoked_at is not null;
