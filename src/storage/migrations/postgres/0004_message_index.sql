-- What a search for conversations and recall go through. words has those of a message that an end of a turn made
-- findable, by its user and by its workspace, for the search of conversations. terms has their stems by the user, for
-- recall; where nobody's recall may find the message it has none, and user_n is null.
create table message_index (
  n bigint primary key references messages (n) on delete cascade,
  conversation_n bigint not null,
  user_n bigint,
  words tsvector not null,
  terms tsvector not null
);

-- Without a list of new entries: it saves nothing where they come one by one, and a turn's end would have to wait now and
-- then for all of them to be put in their places.
create index message_lexemes on message_index using gin (words, terms) with (fastupdate = off);

call make_searchable('message_index', 'terms', 'true');

-- The code of a workspace, beside those of users.
create function workspace_code(workspace_id text) returns text
language sql immutable strict as $$
  select 'w' || substr(encode(sha256(convert_to(workspace_id, 'UTF8')), 'hex'), 1, 12);
$$;

-- Indexes a message of a turn that ends. with_words and with_terms are what messageLexemes of indexed.ts gives.
-- @param recallable whether recall may find it
create function index_message(of_message bigint, recallable boolean, with_words text, with_terms text) returns void
language sql as $$
  insert into message_index (n, conversation_n, user_n, words, terms)
  select m.n, c.n, case when recallable then c.user_n end,
    array_to_tsvector(with_code(scope_code(c.user_n), with_words) || with_code(workspace_code(c.workspace_id), with_words)),
    case when recallable then array_to_tsvector(array[scope_code(c.user_n)] || stretches(scope_code(c.user_n), m.n)
      || with_code(scope_code(c.user_n), with_terms)) else ''::tsvector end
  from messages m join conversations c on c.n = m.conversation_n where m.n = of_message;
$$;

-- Titles that were given: one made from a message holds no other words than that.
create table title_index (
  n bigint primary key references conversations (n) on delete cascade,
  words tsvector not null
);

create index title_lexemes on title_index using gin (words);

-- @param with_words null leaves all as it is
create function index_title(of_conversation bigint, with_words text) returns void
language plpgsql as $$
begin
  if with_words is null then return; end if;
  delete from title_index where n = of_conversation;
  insert into title_index (n, words)
    select c.n, array_to_tsvector(
      with_code(scope_code(c.user_n), with_words) || with_code(workspace_code(c.workspace_id), with_words))
    from conversations c where c.n = of_conversation and with_words <> '';
end;
$$;

-- Conversations with a title or a message that holds all words, the last one as a prefix; null where messages that do are
-- so many that one is never far, whichever conversation one begins with. matching comes with it, to see which do.
-- @param of_user whose alone; null for all of the workspace
create function conversations_holding(of_workspace text, of_user text, words text[])
  returns table (matching text, conversations bigint[])
language plpgsql stable
set enable_seqscan = off set enable_indexscan = off set max_parallel_workers_per_gather = 0 set jit = off as $$
declare
  matches_max constant integer := 10000;
  code constant text := case when of_user is null then workspace_code(of_workspace)
    else scope_code((select n from users where workspace_id = of_workspace and user_id = of_user)) end;
  found_in bigint[];
begin
  if code is null then return; end if;
  select string_agg('''' || code || word || '''' || case when place = cardinality(words) then ':*' else '' end, ' & ')
    into matching from unnest(words) with ordinality w (word, place);
  found_in := array(select i.conversation_n from message_index i where i.words @@ matching::tsquery limit matches_max + 1);
  if cardinality(found_in) <= matches_max then
    conversations := array(select unnest(found_in) union select t.n from title_index t where t.words @@ matching::tsquery);
  end if;
  return next;
end;
$$;
