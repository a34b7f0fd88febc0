-- How turns start and end: one round trip and one commit, also for several at once. Whoever locks several rows of a kind
-- does so in the order of their names, so that no two wait for each other.

-- What stands for a user, key or workspace among the counters, which hold no names.
create function counter_scope(workspace_id text, scope text, subject text) returns text
language sql immutable strict as $$
  select substr(translate(encode(sha256(convert_to(scope, 'UTF8') || '\x00' || convert_to(workspace_id, 'UTF8')
    || '\x00' || convert_to(subject, 'UTF8')), 'base64'), '+/', '-_'), 1, 22);
$$;

create function unix_now() returns bigint
language sql volatile as $$
  select floor(extract(epoch from clock_timestamp()))::bigint;
$$;

-- The row of a user, made where there is none. Until the transaction's end nobody takes their name from them.
create function user_row(of_workspace text, of_user text, now bigint) returns bigint
language plpgsql as $$
declare
  found_n bigint;
begin
  loop
    select n into found_n from users where workspace_id = of_workspace and user_id = of_user for key share;
    exit when found;
    insert into users (workspace_id, user_id, created_at, updated_at) values (of_workspace, of_user, now, now)
      on conflict do nothing returning n into found_n;
    exit when found;
  end loop;
  return found_n;
end;
$$;

create type turn_start as (
  workspace_id text,
  turn_id text,
  user_message_id text,
  message_id text,
  conversation_id text,
  new_conversation_id text,
  user_id text,
  message text,
  message_tokens integer,
  model text,
  title text,
  metadata json,
  instance_id text,
  lease_seconds double precision,
  use_memory boolean,
  idempotency jsonb,
  key_id text,
  reservation jsonb,
  -- What so many turns may hold at once: name and quota of each.
  slots jsonb,
  now_ms bigint,
  day text,
  month text
);

-- What limits each of a turn's payers: what is set, before what is configured.
create function payers_of(start turn_start) returns table (scope text, counter text, limits jsonb)
language sql stable as $$
  select p.scope, counter_scope(start.workspace_id, p.scope, p.subject),
    (start.reservation -> 'defaults' -> p.scope) || coalesce(b.limits::jsonb, '{}')
  from (values ('user', start.user_id), ('key', start.key_id), ('workspace', start.workspace_id)) p (scope, subject)
    left join budgets b on b.workspace_id = start.workspace_id and b.scope = p.scope and b.subject = p.subject;
$$;

-- Finds out whether a turn has room, its counters being locked. What it finds is told, for the caller to say why it was
-- refused; null where nothing limits the turn.
create function book(start turn_start) returns jsonb
language plpgsql as $$
declare
  needed_tokens bigint := (start.reservation ->> 'tokens')::bigint;
  needed_nano_usd bigint := (start.reservation ->> 'nano_usd')::bigint;
  told jsonb;
  refused boolean;
begin
  select jsonb_agg(jsonb_build_object('scope', p.scope, 'limits', p.limits, 'counted', (
      select jsonb_object_agg(c.period, to_jsonb(c) - 'scope' - 'period') from budget_counters c
      where c.scope = p.counter and c.period in (start.day, start.month))))
    into told from payers_of(start) p
    where exists (select from jsonb_each_text(p.limits) l where l.value is not null);
  if told is null then return null; end if;
  select bool_or(case unit when 'tokens' then c.used_tokens + c.reserved_tokens + needed_tokens
      else c.used_nano_usd + c.reserved_nano_usd + needed_nano_usd end > allowed
      or (unit = 'nano_usd' and needed_nano_usd is null))
    into refused
  from jsonb_array_elements(told) p
    cross join (values ('tokens', 'day'), ('tokens', 'month'), ('nano_usd', 'day'), ('nano_usd', 'month')) l (unit, length)
    cross join lateral (select (p -> 'limits' ->> (unit || '_' || length))::bigint as allowed) a
    cross join lateral jsonb_populate_record(null::budget_counters,
      p -> 'counted' -> case length when 'day' then start.day else start.month end) c
  where allowed is not null;
  return jsonb_build_object('refused', coalesce(refused, false), 'told', told);
end;
$$;

-- What a turn or a request in the background took, or reserves, and who pays for it.
create type taken as (
  workspace_id text,
  user_id text,
  key_id text,
  created_at bigint,
  tokens bigint,
  nano_usd bigint,
  reserved_tokens bigint,
  reserved_nano_usd bigint
);

-- Adds to the counters of who pays, whether anything limits them or not: what is set later knows of it.
create function count_taken(all_taken taken[]) returns void
language sql as $$
  insert into budget_counters as c
    select counter, period, sum(tokens), sum(nano_usd), sum(reserved_tokens), sum(reserved_nano_usd)
    from unnest(all_taken) t
      cross join lateral (values (counter_scope(workspace_id, 'user', user_id)), (counter_scope(workspace_id, 'key', key_id)),
        (counter_scope(workspace_id, 'workspace', workspace_id))) s (counter)
      cross join lateral (select to_timestamp(created_at) at time zone 'UTC' as started) a
      cross join lateral (values (to_char(started, 'YYYY-MM-DD')), (to_char(started, 'YYYY-MM'))) p (period)
    where counter is not null group by counter, period order by counter, period
  on conflict (scope, period) do update set
    used_tokens = c.used_tokens + excluded.used_tokens,
    used_nano_usd = c.used_nano_usd + excluded.used_nano_usd,
    reserved_tokens = greatest(0, c.reserved_tokens + excluded.reserved_tokens),
    reserved_nano_usd = greatest(0, c.reserved_nano_usd + excluded.reserved_nano_usd);
$$;

-- The turns that hold each of what only so many may at once; names are hashes.
create table turn_slots (
  name text collate "C" not null,
  turn_n bigint not null references turns (n) on delete cascade,
  primary key (name, turn_n)
);

create index turn_slots_by_turn on turn_slots (turn_n);

-- Locks all that the starts of one transaction decide by, each kind in one order, so that no two transactions wait for
-- each other: idempotency keys and slots by their names, conversations, and the counters of whoever budgets may limit.
create function lock_for(all_starts turn_start[]) returns void
language plpgsql as $$
begin
  perform pg_advisory_xact_lock(lock) from (
    select distinct hashtextextended(name, 0) as lock from unnest(all_starts) s cross join lateral (
      select concat_ws(chr(1), 'key', s.idempotency ->> 'principal_id', s.idempotency ->> 'operation',
        s.idempotency ->> 'key') where s.idempotency is not null
      union all
      select concat_ws(chr(1), 'slot', slot ->> 'name') from jsonb_array_elements(s.slots) slot) n (name)
    order by 1) locks;
  -- Before the counters, also where it is a single one: what ends turns locks them in this order.
  if exists (select from unnest(all_starts) s where s.conversation_id is not null) then
    perform from conversations c join unnest(all_starts) s
      on c.id = s.conversation_id and c.workspace_id = s.workspace_id and c.user_id = s.user_id
      order by c.n for update of c;
  end if;
  -- Rows that are there are locked, though nothing is changed.
  insert into budget_counters as c
    select distinct counter, period, 0, 0, 0, 0
    from unnest(all_starts) s
      cross join lateral (values (counter_scope(s.workspace_id, 'user', s.user_id)),
        (counter_scope(s.workspace_id, 'key', s.key_id)),
        (counter_scope(s.workspace_id, 'workspace', s.workspace_id))) p (counter)
      cross join lateral (values (s.day), (s.month)) l (period)
    where s.reservation is not null and counter is not null order by counter, period
  on conflict (scope, period) do update set used_tokens = 0 where false;
end;
$$;

-- How many turns hold each of the slots that a turn wants, in its order.
create function slots_held(s turn_start) returns bigint[]
language sql stable as $$
  select coalesce(array_agg((select count(*) from turn_slots where name = slot ->> 'name') order by place), '{}')
  from jsonb_array_elements(s.slots) with ordinality each (slot, place);
$$;

-- Starts a turn, or tells why not, or which one its idempotency key has started. What it decides by is locked.
create function start_turn(s turn_start) returns jsonb
language plpgsql as $$
declare
  now bigint := s.now_ms / 1000;
  known record;
  conversation record;
  of_user bigint;
  message_n bigint;
  reply_n bigint;
  entry_n bigint;
  booked jsonb;
  held bigint[];
  slot_full integer;
begin
  if s.idempotency is not null then
    -- Of several retries at once the first one starts the turn, and the others find it.
    select body_hash, resource_id into known from idempotency_keys
      where principal_id = s.idempotency ->> 'principal_id' and operation = s.idempotency ->> 'operation'
        and key = s.idempotency ->> 'key';
    if found then
      if known.body_hash <> s.idempotency ->> 'body_hash' then
        return jsonb_build_object('refused', 'idempotency_key_reused');
      end if;
      if known.resource_id <> s.turn_id then return jsonb_build_object('replayed', known.resource_id); end if;
    end if;
  end if;
  -- The same start again, because nobody knew whether it was committed.
  select c.id, m.seq - 1 as seq into known from turns t join messages m on m.n = t.n
    join conversations c on c.n = m.conversation_n where t.id = s.turn_id;
  if found then
    return jsonb_build_object('conversation_id', known.id, 'seq', known.seq, 'slots', slots_held(s), 'repeated', true,
      'budgets', case when s.reservation is not null then book(s) -> 'told' end);
  end if;

  held := slots_held(s);
  select place - 1 into slot_full from jsonb_array_elements(s.slots) with ordinality each (slot, place)
    where held[place::integer] >= (slot ->> 'quota')::bigint order by place limit 1;
  if found then return jsonb_build_object('refused', 'rate_limited', 'slot', slot_full); end if;
  if s.conversation_id is not null then
    -- Not one that is being erased, whose user is another one or nobody any more.
    select c.n, c.user_n, c.title, c.message_count, c.active_turn_id into conversation
      from conversations c join users u on u.n = c.user_n
      where c.id = s.conversation_id and not c.deleted and u.workspace_id = s.workspace_id and u.user_id = s.user_id
      for update of c for key share of u;
    if not found then return jsonb_build_object('refused', 'not_found'); end if;
    if conversation.active_turn_id is not null then
      return jsonb_build_object('refused', 'turn_in_progress', 'turn_id', conversation.active_turn_id);
    end if;
    of_user := conversation.user_n;
  end if;
  if s.reservation is not null then
    booked := book(s);
    if (booked ->> 'refused')::boolean then
      return jsonb_build_object('refused', 'budget_exhausted', 'budgets', booked -> 'told');
    end if;
  end if;

  if s.conversation_id is null then
    of_user := user_row(s.workspace_id, s.user_id, now);
    insert into conversations (id, workspace_id, user_id, user_n, title, metadata, message_count, active_turn_id,
        created_at, updated_at, last_active_ms)
      values (s.new_conversation_id, s.workspace_id, s.user_id, of_user, s.title, coalesce(s.metadata, '{}'), 2,
        s.turn_id, now, now, s.now_ms)
      returning n, 0 as message_count into conversation;
  else
    update conversations set active_turn_id = s.turn_id, title = coalesce(title, s.title),
      metadata = coalesce(s.metadata, metadata), message_count = message_count + 2, updated_at = now,
      last_active_ms = s.now_ms where n = conversation.n;
  end if;
  insert into messages (id, conversation_n, turn_id, seq, role, content, status, model, tokens, created_at)
    values (s.user_message_id, conversation.n, s.turn_id, conversation.message_count + 1, 'user', s.message,
      'completed', null, s.message_tokens, now) returning n into message_n;
  insert into messages (id, conversation_n, turn_id, seq, role, content, status, model, tokens, created_at)
    values (s.message_id, conversation.n, s.turn_id, conversation.message_count + 2, 'assistant', '', 'running',
      s.model, 0, now) returning n into reply_n;
  insert into usage (kind, workspace_id, user_n, key_id, conversation_id, model, status, reserved_tokens,
      reserved_nano_usd, created_at)
    values ('turn', s.workspace_id, of_user, s.key_id, coalesce(s.conversation_id, s.new_conversation_id), s.model,
      'running', case when booked is null then 0 else (s.reservation ->> 'tokens')::bigint end,
      case when booked is null then 0 else coalesce((s.reservation ->> 'nano_usd')::bigint, 0) end, now)
    returning n into entry_n;
  insert into turns (n, id, user_message_n, status, model, use_memory, instance_id, lease_until, usage_n, created_at)
    values (reply_n, s.turn_id, message_n, 'running', s.model, s.use_memory, s.instance_id,
      clock_timestamp() + make_interval(secs => s.lease_seconds), entry_n, now);
  insert into turn_slots select slot ->> 'name', reply_n from jsonb_array_elements(s.slots) slot;
  insert into instances (id, lease_until)
    values (s.instance_id, clock_timestamp() + make_interval(secs => s.lease_seconds)) on conflict do nothing;
  if booked is not null then
    perform count_taken(array[(s.workspace_id, s.user_id, s.key_id, now, 0, 0, (s.reservation ->> 'tokens')::bigint,
      coalesce((s.reservation ->> 'nano_usd')::bigint, 0))::taken]);
  end if;
  if s.idempotency is not null then
    insert into idempotency_keys values (s.idempotency ->> 'principal_id', s.idempotency ->> 'operation',
      s.idempotency ->> 'key', s.idempotency ->> 'body_hash', s.turn_id, now);
  end if;
  return jsonb_build_object('conversation_id', coalesce(s.conversation_id, s.new_conversation_id),
    'seq', conversation.message_count + 1, 'budgets', booked -> 'told',
    'slots', (select array_agg(each + 1 order by place) from unnest(held) with ordinality h (each, place)));
end;
$$;

-- Locks what it changes in the order in which turns end, so that neither waits for the other in a circle. A checkpoint
-- that had to wait for the end of its turn finds the message ended, and leaves it as it is.
create function checkpoint_replies(replies json) returns void
language plpgsql as $$
declare
  r record;
begin
  for r in select * from json_to_recordset(replies) as each (turn_id text, text text, model text, drawn json)
      order by turn_id collate "C" loop
    if r.drawn is not null then
      update turns set memories_used = r.drawn -> 'memories_used', receipt = r.drawn -> 'receipt'
        where id = r.turn_id and status = 'running';
    end if;
    update messages m set content = r.text, model = r.model, sources = coalesce(r.drawn -> 'sources', m.sources),
        citations = coalesce(r.drawn -> 'citations', m.citations)
      from turns t where t.id = r.turn_id and m.n = t.n and m.status = 'running';
  end loop;
end;
$$;

create type turn_end as (
  turn_id text,
  instance_id text,
  -- Whether somebody else's turn is ended because its lease has run out.
  orphaned boolean,
  status text,
  response text,
  finish_reason text,
  model text,
  sources json,
  citations json,
  memories_used json,
  prompt_tokens integer,
  completion_tokens integer,
  total_tokens integer,
  estimated boolean,
  cached_tokens integer,
  reasoning_tokens integer,
  cost_nano_usd bigint,
  first_token_ms integer,
  duration_ms integer,
  response_tokens integer,
  error_code text,
  error_message text,
  receipt json,
  to_remember boolean,
  reply_recallable boolean,
  -- Memories that were of use.
  used_memories text[],
  message_words text,
  message_terms text,
  reply_words text,
  reply_terms text,
  now_ms bigint
);

-- Ends a running turn of an instance, but for what it took, which is still to be counted. Nothing where it isn't
-- running any more, and then nothing was changed.
create function end_turn(e turn_end) returns setof taken
language plpgsql as $$
declare
  now bigint := e.now_ms / 1000;
  ended record;
  of_conversation bigint;
  of_user bigint;
begin
  if e.orphaned then
    -- Locked, so that whoever comes back to life renews their lease before or after, and not in between. Others who end
    -- its turns too don't wait for each other here.
    perform from instances where id = e.instance_id for share;
    if exists (select from instances where id = e.instance_id and lease_until > clock_timestamp()) then return; end if;
  end if;
  update turns set status = e.status, finish_reason = e.finish_reason, model = e.model,
      memories_used = e.memories_used, prompt_tokens = e.prompt_tokens, completion_tokens = e.completion_tokens,
      total_tokens = e.total_tokens, usage_estimated = e.estimated, error_code = e.error_code,
      error_message = e.error_message, receipt = coalesce(e.receipt, receipt), to_remember = e.to_remember and use_memory, ended_at = now
    where id = e.turn_id and instance_id = e.instance_id and status = 'running'
      and (not e.orphaned or lease_until <= clock_timestamp())
    returning n, user_message_n, use_memory, usage_n into ended;
  if not found then return; end if;
  delete from turn_slots where turn_n = ended.n;
  update messages set content = e.response, status = e.status, model = e.model, sources = e.sources,
      citations = e.citations, tokens = e.response_tokens
    where n = ended.n returning conversation_n into of_conversation;
  update conversations set active_turn_id = null, tokens_used = tokens_used + e.total_tokens, updated_at = now
    where n = of_conversation returning user_n into of_user;
  if e.used_memories <> '{}' then
    update memories set uses = uses + 1, used_at = now where user_n = of_user and id = any(e.used_memories);
  end if;
  perform index_message(ended.user_message_n, ended.use_memory, e.message_words, e.message_terms);
  perform index_message(ended.n, ended.use_memory and e.reply_recallable, e.reply_words, e.reply_terms);
  return query update usage set status = e.status, model = e.model, prompt_tokens = e.prompt_tokens,
      cached_tokens = e.cached_tokens, completion_tokens = e.completion_tokens, reasoning_tokens = e.reasoning_tokens,
      total_tokens = e.total_tokens, estimated = e.estimated, cost_nano_usd = e.cost_nano_usd,
      first_token_ms = e.first_token_ms, duration_ms = e.duration_ms
    where n = ended.usage_n
    -- One who is being erased has only that name.
    returning usage.workspace_id, (select coalesce(u.user_id, u.erased_user_id) from users u where u.n = usage.user_n),
      usage.key_id, usage.created_at, e.total_tokens::bigint, coalesce(e.cost_nano_usd, 0), -usage.reserved_tokens,
      -usage.reserved_nano_usd;
end;
$$;

-- Ends turns, in one transaction; gives the places in the list, from 0, of those that it has ended.
create function end_turns(ends json) returns setof integer
language plpgsql as $$
declare
  e turn_end;
  place integer := -1;
  took taken;
  all_taken taken[] := '{}';
begin
  -- In the order of the starts of several turns: no two transactions wait for each other's conversations.
  if json_array_length(ends) > 1 then
    perform from conversations c where c.n in (
        select m.conversation_n from json_array_elements(ends) each join turns t on t.id = each ->> 'turn_id'
          join messages m on m.n = t.n)
      order by c.n for no key update;
  end if;
  for e in select r.* from json_array_elements(ends) each, json_populate_record(null::turn_end, each.value) r loop
    place := place + 1;
    select * into took from end_turn(e);
    if found then
      all_taken := all_taken || took;
      return next place;
    end if;
  end loop;
  if all_taken <> '{}' then perform count_taken(all_taken); end if;
end;
$$;

create function start_turns(starts json) returns table (turn_id text, outcome jsonb)
language plpgsql as $$
declare
  all_starts turn_start[];
  s turn_start;
begin
  select array_agg(json_populate_record(null::turn_start, each.value) order by each.ordinality) into all_starts
    from json_array_elements(starts) with ordinality each;
  perform lock_for(all_starts);
  foreach s in array all_starts loop
    turn_id := s.turn_id;
    outcome := start_turn(s);
    return next;
  end loop;
end;
$$;
