-- What is known for a prompt, in one look, and how memories are saved.

-- The summary of a conversation, the newest messages before a seq that fit into so many tokens, and those between the
-- two, the newest of them where they are many (see betweenMax). It looks at what it gives, not at the conversation.
create function conversation_context(of_workspace text, of_user text, of_conversation text, before_seq integer,
  tokens_max double precision, between_max integer) returns json
language plpgsql stable as $$
declare
  conversation record;
  message record;
  tokens bigint := 0;
  window_from integer;
  shown_from integer;
begin
  -- By its id alone: a plan that was made while the table was new might go through all that the workspace has.
  select c.n, c.workspace_id, c.user_id, c.summary, c.summary_tokens, c.summary_through_seq into conversation
    from conversations c where c.id = of_conversation and not c.deleted;
  if not found or conversation.workspace_id <> of_workspace or conversation.user_id <> of_user then return null; end if;
  for message in select m.seq, m.tokens from messages m
    where m.conversation_n = conversation.n and m.seq > conversation.summary_through_seq and m.seq < before_seq
    order by m.seq desc
  loop
    window_from := coalesce(window_from, message.seq + 1);
    tokens := tokens + message.tokens;
    if tokens > tokens_max then
      shown_from := greatest(conversation.summary_through_seq + 1, window_from - between_max);
      exit;
    end if;
    window_from := message.seq;
  end loop;
  return json_build_object(
    'summary', json_build_object('text', conversation.summary, 'tokens', conversation.summary_tokens,
      'through_seq', conversation.summary_through_seq),
    'window_from', window_from,
    'messages', (select coalesce(json_agg(r), '[]') from (
      select m.id, m.turn_id, m.seq, m.role, m.content, m.status, m.model, m.sources, m.citations, m.tokens, m.created_at
      from messages m
      where m.conversation_n = conversation.n and m.seq >= coalesce(shown_from, window_from) and m.seq < before_seq
      order by m.seq) r));
end;
$$;

-- All that a prompt needs and no search.
create function prompt_sources(of_workspace text, of_user text, of_conversation text, before_seq integer,
  tokens_max double precision, between_max integer, use_memory boolean) returns json
language plpgsql stable as $$
declare
  of_n bigint;
  profile json;
  context json := conversation_context(of_workspace, of_user, of_conversation, before_seq, tokens_max, between_max);
begin
  select u.n, json_build_object('user_id', u.user_id, 'display_name', u.display_name, 'language', u.language,
      'timezone', u.timezone, 'instructions', u.instructions, 'metadata', u.metadata, 'created_at', u.created_at,
      'updated_at', u.updated_at)
    into of_n, profile from users u where u.workspace_id = of_workspace and u.user_id = of_user;
  return json_build_object(
    'context', context,
    'profile', profile,
    'memories', case when use_memory then (select coalesce(json_agg(r), '[]') from (
      select m.id, m.text, m.kind, m.slot, m.tokens, m.source_message_id, m.superseded_by, m.uses, m.used_at, m.created_at,
        m.updated_at
      from memories m where m.user_n = of_n and m.superseded_by is null order by m.n desc) r) else '[]' end,
    'has_older', use_memory and (coalesce((context #>> '{messages,0,seq}')::integer, before_seq) > 1
      or exists (select from conversations c
        where c.user_n = of_n and c.id <> of_conversation and c.message_count > 0 and not c.deleted)),
    'has_passages', exists (select from documents d where d.workspace_id = of_workspace and d.revision_n is not null));
end;
$$;

-- Saves memories, of which ids are made by who calls: the same again changes nothing and gives the same.
create function save_memories(of_workspace text, of_user text, given json, of_turn text, memories_max integer, now bigint)
returns setof memories
language plpgsql as $$
#variable_conflict use_column
declare
  of_n bigint;
  new_n bigint;
  first_new_n bigint;
  memory record;
begin
  -- One at a time for each user, and none while they are cut off.
  if of_turn is not null then
    -- Who was cut off since isn't the user of this turn any more, though of the same name.
    select n into of_n from users where workspace_id = of_workspace and user_id = of_user for no key update;
    if not found then return; end if;
    update turns t set to_remember = false where t.id = of_turn and t.to_remember and exists (
      select from messages m join conversations c on c.n = m.conversation_n
      where m.n = t.n and c.user_n = of_n and not c.deleted);
    if not found then
      return query select m.* from memories m where m.user_n = of_n and m.id in (
        select each ->> 'id' from json_array_elements(given) each) order by m.n;
      return;
    end if;
  elsif json_array_length(given) > 0 then
    of_n := user_row(of_workspace, of_user, now);
    perform from users where n = of_n for no key update;
  end if;

  for memory in select r.* from json_array_elements(given) each, json_to_record(each) r (
    id text, text text, kind text, slot text, tokens integer, source_message_id text, supersedes json)
  loop
    new_n := null;
    insert into memories (id, user_n, text, kind, slot, tokens, source_message_id, created_at, updated_at)
      values (memory.id, of_n, memory.text, memory.kind, memory.slot, memory.tokens, memory.source_message_id, now, now)
      on conflict (id) do nothing returning n into new_n;
    continue when new_n is null;
    first_new_n := coalesce(first_new_n, new_n);
    -- Who draws memories from a turn has decided what replaces what by the memories that they name.
    update memories set superseded_by = memory.id, updated_at = now
      where user_n = of_n and id <> memory.id and superseded_by is null
        and (id in (select json_array_elements_text(memory.supersedes)) or of_turn is null and slot = memory.slot);
  end loop;
  -- What was superseded goes first; then what was of least use, which a month without use halves. What has just come
  -- stays, or else nothing new would get in where everything else was of use once.
  if first_new_n is not null then
    delete from memories where n in (select n from memories where user_n = of_n
      order by superseded_by is not null, n < first_new_n,
        (uses + 1.0) / (1 + greatest(0, now - coalesce(used_at, created_at)) / 2592000.0) desc, n desc
      offset memories_max);
  end if;
  return query select m.* from memories m where m.user_n = of_n and m.id in (
    select each ->> 'id' from json_array_elements(given) each) order by m.n;
end;
$$;

-- Ended turns whose memories are still to be drawn: an instance's own, and those of instances that haven't asked for so
-- long, which are its own from now on. One looks at a time, so that none sees as left what another has just taken. This
-- is told by claims, because an instance that runs no turns has no lease.
create function turns_to_remember(of_instance text, limit_to integer, seconds double precision)
returns table (turn_id text, workspace_id text, user_id text, user_message_id text, message text, created_at bigint)
language plpgsql as $$
#variable_conflict use_column
begin
  perform pg_advisory_xact_lock(7370002);
  -- What those who died have left of theirs, too.
  delete from claims where until < clock_timestamp() - interval '1 hour';
  insert into claims (task, holder, until)
    values ('remembering ' || of_instance, of_instance, clock_timestamp() + make_interval(secs => seconds))
    on conflict (task) do update set until = excluded.until;
  return query
    with mine as (
      select t.n from turns t join messages u on u.n = t.user_message_n
        join conversations c on c.n = u.conversation_n join users owner on owner.n = c.user_n
      where t.to_remember and owner.user_id is not null and not c.deleted and (t.instance_id = of_instance
        or not exists (select from claims k where k.task = 'remembering ' || t.instance_id and k.until > clock_timestamp()))
      order by t.n limit limit_to),
    taken as (
      update turns t set instance_id = of_instance from mine where t.n = mine.n and t.instance_id <> of_instance)
    select t.id, c.workspace_id, c.user_id, u.id, u.content, t.created_at
    from mine join turns t on t.n = mine.n join messages u on u.n = t.user_message_n
      join conversations c on c.n = u.conversation_n
    order by t.n;
end;
$$;
