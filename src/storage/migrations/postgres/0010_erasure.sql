-- Erasing users and conversations, each call a bounded bit, which holds no lock for long. First something is cut off: a
-- user loses their user_id, a conversation is marked as deleted. Then nothing goes on with it, and what is left can be
-- taken away at leisure, also by another instance after a crash.

-- What stands in an idempotency key for something of a user that was deleted.
create function kept_for(of_user bigint) returns text
language sql immutable strict as $$
  select 'u' || of_user;
$$;

create type erased as (
  conversations bigint,
  messages bigint,
  turns bigint,
  memories bigint,
  documents bigint,
  idempotency_keys bigint,
  more boolean
);

-- Erases some messages of conversations, the newest first, so that no reply is without its question. Turns are locked
-- first, as by who ends them. Keys: whether the idempotency keys of their turns are kept, to tell that they were deleted.
create function erase_messages(of_conversations bigint[], of_user bigint, keys boolean) returns erased
language plpgsql as $$
declare
  result erased := (0, 0, 0, 0, 0, 0, true);
  rows bigint[] := array(select n from messages where conversation_n = any(of_conversations)
    order by conversation_n desc, seq desc limit 256);
  ids text[];
begin
  perform from turns where n = any(rows) order by n for update;
  ids := array(select id from turns where n = any(rows));
  if keys then
    update idempotency_keys set resource_id = kept_for(of_user) where resource_id = any(ids);
  else
    delete from idempotency_keys where resource_id = any(ids);
    get diagnostics result.idempotency_keys = row_count;
  end if;
  update memories set source_message_id = null
    where user_n = of_user and source_message_id in (select id from messages where n = any(rows));
  delete from turns where n = any(rows);
  get diagnostics result.turns = row_count;
  delete from messages where n = any(rows);
  get diagnostics result.messages = row_count;
  result.more := cardinality(rows) = 256;
  return result;
end;
$$;

-- Erases some of a conversation that was deleted; false where there is nothing left.
create function erase_deleted(of_conversation text) returns boolean
language plpgsql as $$
declare
  conversation record;
begin
  select n, user_n into conversation from conversations where id = of_conversation and deleted;
  if not found then return false; end if;
  if (erase_messages(array[conversation.n], conversation.user_n, true)).more then return true; end if;
  update idempotency_keys set resource_id = kept_for(conversation.user_n) where resource_id = of_conversation;
  delete from conversations where n = conversation.n;
  return false;
end;
$$;

-- Cuts off a conversation that no turn runs in, and erases some of it; tells whether there was one, or which turn runs,
-- and whether there is more to erase.
create function delete_conversation(of_workspace text, of_user text, of_conversation text,
  out found_one boolean, out turn_id text, out more boolean)
language plpgsql as $$
begin
  select c.active_turn_id into turn_id from conversations c
    where c.id = of_conversation and c.workspace_id = of_workspace and (of_user is null or c.user_id = of_user)
      and not c.deleted for update;
  found_one := found;
  more := false;
  if not found or turn_id is not null then return; end if;
  update conversations set deleted = true where id = of_conversation;
  more := erase_deleted(of_conversation);
end;
$$;

-- Cuts off some of the conversations that are as old, a workspace after the other, as the index has them.
create function cut_off_inactive(before_ms bigint, limit_to integer) returns setof text
language sql as $$
  update conversations set deleted = true where n in (
    select c.n from conversations c where c.n in (
      select each.n from workspaces w cross join lateral (
        select n from conversations
        where workspace_id = w.id and last_active_ms < before_ms and active_turn_id is null and not deleted
        order by last_active_ms limit limit_to) each
      limit limit_to)
    and c.last_active_ms < before_ms and c.active_turn_id is null and not c.deleted for update skip locked)
  returning id;
$$;

-- Gives the turns of the user that run.
create function cut_off_user(of_workspace text, of_user text, token_key text) returns setof text
language plpgsql as $$
declare
  cut bigint;
begin
  update users set user_id = null, erased_user_id = user_id, display_name = null, language = null, timezone = null,
      instructions = null, metadata = '{}'
    where workspace_id = of_workspace and user_id = of_user returning n into cut;
  -- They stay as revoked ones, of nobody: a service that has had a key is never open again.
  update keys set user_id = '', name = '', revoked_at = coalesce(revoked_at, unix_now())
    where workspace_id = of_workspace and user_id = of_user;
  delete from budgets where workspace_id = of_workspace
    and (scope = 'user' and subject = of_user or scope = 'key' and subject = token_key);
  return query select active_turn_id from conversations where user_n = cut and active_turn_id is not null;
end;
$$;

-- Erases some of what a user was cut off from. Until it is called again, for so long, nobody takes over from who calls.
create function erase_of_user(of_workspace text, of_name text, holder text, hold_seconds integer) returns erased
language plpgsql as $$
declare
  result erased := (0, 0, 0, 0, 0, 0, true);
  of_user bigint;
  batch bigint[];
  more_keys bigint;
begin
  select n into of_user from users where workspace_id = of_workspace and user_id is null and erased_user_id = of_name
    order by n limit 1;
  if not found then
    result.more := false;
    return result;
  end if;
  insert into claims (task, holder, until)
    values ('erase ' || of_user, holder, clock_timestamp() + make_interval(secs => hold_seconds))
    on conflict (task) do update set holder = excluded.holder, until = excluded.until;

  batch := array(select n from conversations where user_n = of_user order by n desc limit 64);
  if batch <> '{}' then
    result := erase_messages(batch, of_user, false);
    if result.more then return result; end if;
    delete from idempotency_keys where resource_id in (select id from conversations where n = any(batch));
    get diagnostics more_keys = row_count;
    result.idempotency_keys := result.idempotency_keys + more_keys;
    delete from conversations where n = any(batch);
    get diagnostics result.conversations = row_count;
    result.more := true;
    return result;
  end if;
  delete from memories where n in (select n from memories where user_n = of_user limit 256);
  get diagnostics result.memories = row_count;
  if result.memories > 0 then return result; end if;
  delete from documents where n in (select n from documents where user_n = of_user limit 64);
  get diagnostics result.documents = row_count;
  if result.documents > 0 then return result; end if;
  -- What they took stays in the ledger, under no name.
  update usage set user_n = null, conversation_id = null,
      key_id = case when key_id like 'token:%' then null else key_id end
    where n in (select n from usage where user_n = of_user limit 256);
  if found then return result; end if;
  delete from idempotency_keys where resource_id = kept_for(of_user);
  get diagnostics result.idempotency_keys = row_count;
  delete from users where n = of_user;
  delete from claims where task = 'erase ' || of_user;
  insert into settings (name, value) values ('uncleaned', 'due') on conflict (name) do update set value = 'due';
  return result;
end;
$$;
