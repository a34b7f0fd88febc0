-- Documents: how revisions begin, are stored, end, and are cleared away. Whoever locks both a document and its revision
-- locks the document first, so that no two wait for each other.

-- The row that stands for whose documents are, made where there is none.
create function document_scope(of_workspace text, of_owner bigint) returns bigint
language plpgsql as $$
declare
  found_n bigint;
begin
  loop
    select n into found_n from document_scopes
      where workspace_id = of_workspace and coalesce(user_n, 0) = coalesce(of_owner, 0);
    exit when found;
    insert into document_scopes (workspace_id, user_n) values (of_workspace, of_owner)
      on conflict do nothing returning n into found_n;
    exit when found;
  end loop;
  return found_n;
end;
$$;

-- A document with its newest revision.
create view newest_revisions as
  select d.n, d.id, d.workspace_id, d.collection, d.name, d.user_n, u.user_id, r.status, r.progress, r.error_code,
    r.error_message, r.version, r.media_type, r.metadata, r.bytes, r.length, r.passage_count, d.created_at, d.updated_at
  from documents d left join users u on u.n = d.user_n
    cross join lateral (select * from document_revisions each where each.document_n = d.n order by each.n desc limit 1) r;

-- Begins a document or a new revision of one, unless the same is there already; gives the document. The row of the
-- revision is null then.
create function begin_revision(of_workspace text, given json, now bigint,
  out document_n bigint, out revision_n bigint, out created boolean)
language plpgsql as $$
declare
  of_owner bigint;
  in_scope bigint;
  newest record;
begin
  if given ->> 'owner' is not null then
    of_owner := user_row(of_workspace, given ->> 'owner', now);
  end if;
  in_scope := document_scope(of_workspace, of_owner);
  loop
    -- One upload under a name at a time.
    select n, false into document_n, created from documents
      where scope_n = in_scope and collection = given ->> 'collection' and name = given ->> 'name' for update;
    exit when found;
    insert into documents (id, workspace_id, user_n, scope_n, collection, name, created_at, updated_at)
      values (given ->> 'document_id', of_workspace, of_owner, in_scope, given ->> 'collection', given ->> 'name', now, now)
      on conflict (scope_n, collection, name) do nothing returning n, true into document_n, created;
    exit when found;
  end loop;
  select r.version, r.status, r.content_hash = given ->> 'content_hash' and r.metadata::text = (given -> 'metadata')::text as same
    into newest from document_revisions r where r.document_n = begin_revision.document_n order by r.n desc limit 1;
  if newest.same and newest.status <> 'failed' then return; end if;
  -- One that is still on its way has lost its race: the newer content counts.
  update document_revisions r set document_n = null where r.document_n = begin_revision.document_n and status <> 'ready';
  insert into document_revisions (id, document_n, version, status, media_type, metadata, content_hash, bytes, created_at)
    values (given ->> 'revision_id', document_n, coalesce(newest.version, 0) + 1, 'processing', given ->> 'media_type',
      given -> 'metadata', given ->> 'content_hash', (given ->> 'bytes')::bigint, now)
    returning n into revision_n;
end;
$$;

-- Deletes some of what is stored of a revision; false where there is nothing.
create function clear_revision(of_revision bigint) returns boolean
language plpgsql as $$
begin
  delete from passages where n in (select n from passages where revision_n = of_revision limit 256);
  if found then return true; end if;
  delete from document_parts where revision_n = of_revision and start in (
    select start from document_parts where revision_n = of_revision limit 64);
  return found;
end;
$$;

-- Begins to store a revision: from now on earlier attempts find nothing. Tells whether they have left anything.
create function begin_attempt(of_revision text, out attempt integer, out stored boolean)
language plpgsql as $$
declare
  revision bigint;
begin
  update document_revisions r set attempt = r.attempt + 1
    where id = of_revision and status = 'processing' and document_n is not null returning r.n, r.attempt into revision, attempt;
  stored := exists (select from passages where revision_n = revision)
    or exists (select from document_parts where revision_n = revision);
end;
$$;

-- The row of a revision that an attempt is still at; none where it is gone or another attempt was begun.
create function revision_of(of_revision text, of_attempt integer) returns bigint
language sql as $$
  select n from document_revisions
  where id = of_revision and attempt = of_attempt and status = 'processing' and document_n is not null
  for no key update;
$$;

-- The same again adds nothing. False where the revision is gone.
create function add_to_revision(of_revision text, of_attempt integer, parts json, given json, done double precision)
returns boolean
language plpgsql as $$
declare
  revision bigint := revision_of(of_revision, of_attempt);
  passage record;
  passage_n bigint;
begin
  if revision is null then return false; end if;
  insert into document_parts (revision_n, start, text)
    select revision, p.start, p.text from json_to_recordset(parts) p (start integer, text text) on conflict do nothing;
  for passage in select * from json_to_recordset(given) p (seq integer, start integer, "end" integer, heading text,
    text text, tokens integer, lexemes text) order by seq
  loop
    insert into passages (revision_n, seq, start, "end", heading, text, tokens)
      values (revision, passage.seq, passage.start, passage."end", passage.heading, passage.text, passage.tokens)
      on conflict do nothing returning n into passage_n;
    continue when not found;
    perform index_passage(passage_n, revision, passage.lexemes);
  end loop;
  update document_revisions set progress = done where n = revision;
  return true;
end;
$$;

-- Makes a revision the present one; gives the document. The same again changes nothing.
create function finish_revision(of_revision text, of_attempt integer, read_as text, of_length integer, now bigint)
returns bigint
language plpgsql as $$
declare
  revision bigint;
  document bigint;
begin
  perform from documents where n = (select document_n from document_revisions where id = of_revision) for update;
  select document_n into document from document_revisions
    where id = of_revision and attempt = of_attempt and status = 'ready';
  if found then return document; end if;
  revision := revision_of(of_revision, of_attempt);
  if revision is null then return null; end if;
  update document_revisions set status = 'ready', progress = 1, media_type = read_as, length = of_length, ended_at = now,
      passage_count = (select count(*) from passages where revision_n = revision)
    where n = revision returning document_n into document;
  update documents set revision_n = revision, updated_at = now where n = document;
  update document_revisions set document_n = null where document_n = document and n < revision;
  delete from uploads where revision_n = revision;
  return document;
end;
$$;

create function fail_revision(of_revision text, of_attempt integer, code text, message text, keep boolean, now bigint)
returns void
language plpgsql as $$
declare
  revision bigint;
  document bigint;
begin
  select n into document from documents
    where n = (select document_n from document_revisions where id = of_revision) for update;
  revision := revision_of(of_revision, of_attempt);
  if revision is null then return; end if;
  delete from uploads where revision_n = revision;
  if keep then
    update document_revisions set status = 'failed', error_code = code, error_message = message, ended_at = now
      where n = revision;
  else
    update document_revisions set document_n = null where n = revision;
    delete from documents where n = document and not exists (select from document_revisions where document_n = document);
  end if;
end;
$$;

-- Deletes some of what no document has any more; true where there is more, also where somebody else is at it.
create function clear_waste() returns boolean
language plpgsql as $$
declare
  revision bigint;
begin
  select n into revision from document_revisions where document_n is null limit 1 for update skip locked;
  if not found then
    if not exists (select from document_revisions where document_n is null) then return false; end if;
    perform pg_sleep(0.01);
    return true;
  end if;
  if not clear_revision(revision) then delete from document_revisions where n = revision; end if;
  return true;
end;
$$;
