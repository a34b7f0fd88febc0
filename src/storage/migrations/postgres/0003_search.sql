-- What search goes through: tsvectors in GIN indexes, each lexeme with the code of its scope before it, so that a look-up
-- goes through one scope's texts alone. Words are cut and stemmed by Parley (search/), never by PostgreSQL.

-- As scope.ts has it: a number after how many digits it has, so that no code is the beginning of another.
create function scope_code(n bigint) returns text
language sql immutable strict as $$
  select length(n::text) || n::text;
$$;

create function with_code(code text, words text) returns text[]
language sql immutable as $$
  select coalesce(array_agg(code || word), '{}') from unnest(string_to_array(words, ' ')) word;
$$;

-- A stretch of an index is 2^10 rows by their n, 2^13, 2^16 or 2^19. A row has those that it lies in among its lexemes:
-- with the last two of a size a search looks at the newest rows of a scope alone, however many hold what it looks for.
create function stretches(code text, n bigint) returns text[]
language sql immutable as $$
  select array[code || '@10.' || (n >> 10), code || '@13.' || (n >> 13), code || '@16.' || (n >> 16), code || '@19.' || (n >> 19)];
$$;

create function last_stretches(codes text[], level integer, last_n bigint) returns text[]
language sql immutable as $$
  select array_agg(code || '@' || level || '.' || stretch)
  from unnest(codes) code, generate_series(greatest(0, (last_n >> level) - 1), last_n >> level) stretch;
$$;

create function collection_token(code text, collection text) returns text
language sql immutable as $$
  select code || '#c' || substr(encode(sha256(convert_to(collection, 'UTF8')), 'hex'), 1, 20);
$$;

create function metadata_token(code text, key text, value text) returns text
language sql immutable as $$
  select code || '#m' || substr(encode(sha256(convert_to(key, 'UTF8') || '\x00' || convert_to(value, 'UTF8')), 'hex'), 1, 20);
$$;

-- One of some lexemes, as a part of a tsquery. There are no quotes in them, nor backslashes.
create function any_of(lexemes text[]) returns text
language sql immutable as $$
  select '(' || string_agg('''' || lexeme || '''', ' | ') || ')' from unnest(lexemes) lexeme;
$$;

-- How telling a term is: idf of search/bm25f.ts.
create function idf(holding float8, total float8) returns float8
language sql immutable as $$
  select ln(1 + (texts - holding + 0.5) / (holding + 0.5)) / ln(1 + (texts - 0.5) / 1.5)
  from greatest(total, holding, 1000) texts;
$$;

-- The rows worth ranking for the terms of a question, and what was seen on the way.
create type candidates as (
  -- Rows that hold the most telling terms.
  rows bigint[],
  -- How many rows there are in all, and how many hold each term, taking them to be spread evenly.
  total float8,
  holding float8[],
  -- For each term the newest rows that hold it: rows, and beside each a bit for its term.
  held_rows bigint[],
  held_bits integer[]
);

-- Makes `newest_in_<index>` and `candidates_in_<index>` for an index: a table of n and lexemes as described above.
-- shown says which of its rows `i` may be found, where `hidden` are given.
create procedure make_searchable(index_table text, lexemes text, shown text)
language plpgsql as $M$
begin
  execute replace(replace(replace($T$
    -- The newest rows that match, 400 at most, newest first. Stretches are gone back over until there are so many, or so
    -- few must be left in all that they can all be looked at.
    -- @param total how many rows there are in all, about; null where that isn't known
    create function newest_in_<index>(matching text, codes text[], last_n bigint, total float8, hidden bigint[]) returns bigint[]
    language plpgsql stable
    set enable_seqscan = off set enable_indexscan = off set max_parallel_workers_per_gather = 0 set jit = off as $F$
    declare
      rows_max constant integer := 400;
      -- So many are looked at at once.
      few constant integer := 1500;
      level integer;
      looked_at bigint;
      found_rows bigint[];
    begin
      foreach level in array array[10, 13, 16, 19] loop
        looked_at := last_n - (greatest(0, (last_n >> level) - 1) << level) + 1;
        exit when least(total, last_n) <= few or looked_at > last_n;
        with hits as materialized (
          select i.n from <index> i
          where i.<lexemes> @@ (matching || ' & ' || any_of(last_stretches(codes, level, last_n)))::tsquery and <shown>)
        select array(select n from hits order by n desc limit rows_max) into found_rows;
        if cardinality(found_rows) = rows_max then return found_rows; end if;
        exit when (cardinality(found_rows) + 1.0) * last_n / looked_at <= few;
      end loop;
      with hits as materialized (select i.n from <index> i where i.<lexemes> @@ matching::tsquery and <shown>)
      select array(select n from hits order by n desc limit rows_max) into found_rows;
      return found_rows;
    end;
    $F$;

    -- From a question's terms to the rows worth ranking, at a cost that is bounded however much text there is: see
    -- candidates.ts of SQLite, which does the same.
    -- @param codes of the scopes that are searched
    -- @param filter what every row has to match too; null where the codes say it all
    create function candidates_in_<index>(codes text[], filter text, words text[], stems text[], candidates_max integer,
      hidden bigint[]) returns candidates
    language plpgsql stable as $F$
    declare
      rows_max constant integer := 400;
      combined_max constant integer := 5;
      enough constant integer := 100;
      give_up_at constant timestamptz := clock_timestamp() + interval '25 ms';
      also constant text := coalesce(' & ' || filter, '');
      last_n constant bigint := coalesce((select max(n) from <index>), 0);
      result candidates;
      scope_total float8;
      matching text[];
      found_rows bigint[];
      common integer[] := '{}';
      combination integer;
      combinations integer[] := '{}';
      -- Candidates, and beside each bits of the terms that it holds.
      chosen_rows bigint[] := '{}';
      chosen_bits integer[] := '{}';
      chosen integer := 0;
    begin
      found_rows := newest_in_<index>(any_of(codes) || also, codes, last_n, null, hidden);
      scope_total := estimated(found_rows, rows_max, last_n);
      result := (null, scope_total, '{}', '{}', '{}');
      for at in 1 .. cardinality(words) loop
        matching[at] := any_of(array(select distinct code || word from unnest(codes) code, unnest(array[words[at], stems[at]]) word));
        found_rows := newest_in_<index>(matching[at] || also, codes, last_n, scope_total, hidden);
        result.holding[at] := estimated(found_rows, rows_max, last_n);
        result.held_rows := result.held_rows || found_rows;
        result.held_bits := result.held_bits || array_fill(1 << (at - 1), array[cardinality(found_rows)]);
        if cardinality(found_rows) = rows_max then
          common := common || at;
        else
          chosen_rows := chosen_rows || found_rows;
          chosen_bits := chosen_bits || array_fill(1 << (at - 1), array[cardinality(found_rows)]);
        end if;
      end loop;
      common := array(select at from unnest(common) at order by result.holding[at], at limit combined_max);

      -- All terms, all but one, and pairs, as bits of their places among the common ones.
      if cardinality(common) >= 2 then
        combinations := array[(1 << cardinality(common)) - 1];
        if cardinality(common) > 3 then
          combinations := combinations || array(
            select combinations[1] # (1 << left_out) from generate_series(cardinality(common) - 1, 0, -1) left_out);
        end if;
        if cardinality(common) >= 3 then
          combinations := combinations || array(
            select (1 << one) | (1 << other) from generate_series(0, cardinality(common) - 2) one,
              generate_series(one + 1, cardinality(common) - 1) other order by one, other);
        end if;
      end if;
      chosen := count_distinct(chosen_rows);
      foreach combination in array combinations loop
        exit when chosen >= enough and clock_timestamp() > give_up_at;
        found_rows := newest_in_<index>((select string_agg(matching[at], ' & ') from unnest(common) with ordinality c (at, place)
          where (combination >> (place::integer - 1)) & 1 = 1) || also, codes, last_n, scope_total, hidden);
        chosen_rows := chosen_rows || found_rows;
        chosen_bits := chosen_bits || array_fill((select bit_or(1 << (at - 1)) from unnest(common) with ordinality c (at, place)
          where (combination >> (place::integer - 1)) & 1 = 1), array[cardinality(found_rows)]);
        chosen := count_distinct(chosen_rows);
        exit when combination = combinations[1] and chosen >= enough;
      end loop;
      -- Where there is nothing but common words, and they don't come together.
      if chosen < enough and cardinality(common) > 0 then
        found_rows := array(select h.n from unnest(result.held_rows, result.held_bits) h (n, bit) where bit = 1 << (common[1] - 1));
        chosen_rows := chosen_rows || found_rows;
        chosen_bits := chosen_bits || array_fill(1 << (common[1] - 1), array[cardinality(found_rows)]);
      end if;

      with chosen as (
          select n, bit_or(bits) as bits from unnest(chosen_rows, chosen_bits) c (n, bits) group by n),
        of_common as (
          select n, bit_or(bit) as bits from unnest(result.held_rows, result.held_bits) h (n, bit)
          where bit in (select 1 << (at - 1) from unnest(common) at) group by n),
        held as (select n, c.bits | coalesce(o.bits, 0) as bits from chosen c left join of_common o using (n)),
        worths as materialized (
          select bits, (select sum(idf(result.holding[at], scope_total)) from generate_series(1, cardinality(words)) at
            where (bits >> (at - 1)) & 1 = 1) as worth
          from (select distinct bits from held) d)
      select array(select n from held join worths using (bits) order by worth desc, n desc limit candidates_max)
        into result.rows;
      return result;
    end;
    $F$;
  $T$, '<index>', index_table), '<lexemes>', lexemes), '<shown>', shown);
end;
$M$;

create function count_distinct(all_rows bigint[]) returns integer
language sql immutable as $$
  select count(distinct n)::integer from unnest(all_rows) n;
$$;

-- How many rows there are in all, by how far back the newest ones reach.
create function estimated(newest bigint[], rows_max integer, last_n bigint) returns float8
language sql immutable as $$
  select case when cardinality(newest) < rows_max then cardinality(newest)
    else rows_max::float8 * last_n / (last_n - newest[rows_max] + 1) end;
$$;

-- The terms that some rows hold, as far as they lie in the lists of candidates, as bits.
create function held_by(of_rows bigint[], found candidates) returns table (n bigint, bits integer)
language plpgsql stable as $$
begin
  return query
  select h.n, bit_or(h.bit) from unnest(found.held_rows, found.held_bits) h (n, bit) join unnest(of_rows) r on r = h.n
  group by h.n;
end;
$$;
