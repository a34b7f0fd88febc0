-- Searches, each in one round trip: the rows that are ranked then, with all that is told of them.

-- The terms of a question are words and their stems, side by side; none where nothing is looked for by words. vector has
-- what `near_passages` and `near_messages` take; null where there is none.
create type found as (
  -- What is ranked, as JSON.
  rows json,
  total double precision,
  holding double precision[],
  -- See near.
  near_rows bigint[],
  near_vectors bytea,
  near_texts double precision
);

create function texts_in(list jsonb) returns text[]
language sql immutable as $$
  select coalesce(array_agg(value order by place), '{}') from jsonb_array_elements_text(list) with ordinality l (value, place);
$$;

create function search_passages(question jsonb) returns setof found
language plpgsql stable set jit = off as $$
declare
  vector constant jsonb := nullif(question -> 'vector', 'null');
  collections constant jsonb := nullif(question -> 'collections', 'null');
  filter constant jsonb := nullif(question -> 'filter', 'null');
  scopes bigint[];
  codes text[];
  looked_for candidates;
  nearby near;
  result found;
begin
  scopes := array(select n from document_scopes where workspace_id = question ->> 'workspace_id'
    and (user_n is null or user_n = (select n from users
      where workspace_id = question ->> 'workspace_id' and user_id = question ->> 'user_id')));
  if scopes = '{}' then return; end if;
  codes := array(select scope_code(n) from unnest(scopes) n);
  if question -> 'words' <> '[]' then
    looked_for := candidates_in_passage_index(codes,
      (select string_agg(token, ' & ') from (
        select any_of(array_agg(collection_token(code, c))) from unnest(codes) code, jsonb_array_elements_text(collections) c
          having count(*) > 0
        union all
        select any_of(array_agg(metadata_token(code, m.key, m.value))) from unnest(codes) code, jsonb_each_text(filter) m
          group by m.key) t (token)),
      texts_in(question -> 'words'), texts_in(question -> 'stems'), (question ->> 'candidates_max')::integer,
      -- Those that are still being stored, and those that are replaced or deleted.
      array(select n from document_revisions where status = 'processing'
        union all select n from document_revisions where document_n is null));
  end if;
  if vector is not null then nearby := near_passages(scopes, collections, filter, vector); end if;

  with chosen as materialized (
      select p.* from passages p
      where p.n = any(looked_for.rows || nearby.rows[: (question ->> 'near_max')::integer])),
    shown as materialized (
      select p.n, p.revision_n, p.seq, d.id as document_id, d.name, p.heading, p.text, p.start, p."end", p.tokens
      from chosen p join document_revisions r on r.n = p.revision_n
        join documents d on d.n = r.document_n and d.revision_n = r.n
      where d.scope_n = any(scopes)),
    around as materialized (
      select s.n as of_n, p.n, p.seq < s.seq as before from shown s
        join passages p on p.revision_n = s.revision_n and p.seq in (s.seq - 1, s.seq + 1)),
    held as materialized (select n, bits from held_by(array(select n from around), looked_for))
  select json_agg(json_build_object('n', s.n, 'revision_n', s.revision_n, 'seq', s.seq, 'document_id', s.document_id,
      'name', s.name, 'heading', s.heading, 'text', s.text, 'by_words', coalesce(s.n = any(looked_for.rows), false), 'start', s.start, 'end', s."end", 'tokens', s.tokens,
      'near', array(select h.bits from around a join held h on h.n = a.n where a.of_n = s.n order by a.before desc))
      order by s.n)
    into result.rows from shown s;
  result.total := looked_for.total;
  result.holding := looked_for.holding;
  result.near_rows := nearby.rows;
  result.near_vectors := nearby.vectors;
  result.near_texts := nearby.texts;
  return next result;
end;
$$;

-- Messages that are candidates, and those around them: `reach` on each side, of what recall may find.
create function recall_messages(question jsonb) returns setof found
language plpgsql stable set jit = off as $$
declare
  vector constant jsonb := nullif(question -> 'vector', 'null');
  reach constant integer := question ->> 'reach';
  of_user constant bigint := (select n from users
    where workspace_id = question ->> 'workspace_id' and user_id = question ->> 'user_id');
  shown_in constant bigint := (select n from conversations where id = question ->> 'conversation_id');
  shown_from_seq constant integer := question ->> 'shown_from_seq';
  looked_for candidates;
  nearby near;
  result found;
begin
  if of_user is null then return; end if;
  if question -> 'words' <> '[]' then
    looked_for := candidates_in_message_index(array[scope_code(of_user)], null, texts_in(question -> 'words'),
      texts_in(question -> 'stems'), (question ->> 'candidates_max')::integer, null);
  end if;
  if vector is not null then nearby := near_messages(of_user, vector, shown_in, shown_from_seq); end if;

  with chosen as materialized (
      select r as n, min(place) as place, bool_or(by_words) as by_words, min(near_place) as near_place
      from (
        select r, place, true as by_words, null::bigint as near_place from unnest(looked_for.rows) with ordinality w (r, place)
        union all
        select r, 1000 + place, false, place
          from unnest(nearby.rows[: (question ->> 'near_max')::integer]) with ordinality n (r, place)) c
      group by r),
    -- With + 0 it begins with what was chosen, and not with all conversations of the user, be they many.
    matches as materialized (
      select c.n, c.place, c.by_words, c.near_place, m.conversation_n, m.seq from chosen c join messages m on m.n = c.n
        join conversations o on o.n = m.conversation_n where o.user_n + 0 = of_user and not o.deleted),
    around as materialized (
      select distinct conversation_n, at as seq
      from matches cross join lateral generate_series(greatest(1, seq - reach), seq + reach) at
      where by_words or near_place <= (question ->> 'near_spread')::integer),
    shown as (
      select n, place, by_words from matches
      union
      select m.n, null, false from around a join messages m on m.conversation_n = a.conversation_n and m.seq = a.seq
        join message_index i on i.n = m.n
      where i.user_n is not null and not exists (select from matches where matches.n = m.n)),
    held as materialized (select n, bits from held_by(array(select n from shown), looked_for)),
    bounded as (
      select s.n, s.place, s.by_words, (case when s.place is null then question ->> 'neighbour_chars_max'
        else question ->> 'match_chars_max' end)::integer as chars_max from shown s)
  select json_agg(json_build_object('n', m.n, 'conversation_n', m.conversation_n, 'by_words', b.by_words, 'matches', b.place is not null,
      'bits', coalesce(h.bits, 0), 'id', m.id, 'conversation_id', c.id, 'turn_id', m.turn_id, 'seq', m.seq, 'role', m.role,
      'content', left(m.content, b.chars_max), 'whole', char_length(m.content) <= b.chars_max, 'status', m.status,
      'model', m.model, 'sources', m.sources, 'citations', m.citations, 'tokens', m.tokens, 'created_at', m.created_at)
      order by b.place, m.n)
    into result.rows
  from bounded b join messages m on m.n = b.n join conversations c on c.n = m.conversation_n left join held h on h.n = b.n;
  result.total := looked_for.total;
  result.holding := looked_for.holding;
  result.near_rows := nearby.rows;
  result.near_vectors := nearby.vectors;
  result.near_texts := nearby.texts;
  return next result;
end;
$$;
