-- What search goes through: tsvectors in GIN indexes, each lexeme with the code of its scope before it, so that a look-up
-- goes through one scope's texts alone. Words are cut and stemmed by Parley (search/), never by PostgreSQL. The indexes
-- have no list of pending entries, which every search would go through.

-- As scope.ts has it: a number after how many digits it has, so that no code is the beginning of another.
create function scope_code(n bigint) returns text
language sql immutable strict as $$
  select length(n::text) || n::text;
$$;

create function with_code(code text, words text) returns text[]
language sql immutable as $$
  select coalesce(array_agg(code || word), '{}') from unnest(string_to_array(words, ' ')) word;
$$;

-- What stands for the stretches of an index that a row lies in, of 2^10 rows, 2^13, 2^16 and 2^19: with two of them a
-- search looks at the newest rows of a scope alone.
create function stretches(code text, n bigint) returns text[]
language sql immutable as $$
  select array[code || '@10.' || (n >> 10), code || '@13.' || (n >> 13), code || '@16.' || (n >> 16), code || '@19.' || (n >> 19)];
$$;

create function collection_token(code text, collection text) returns text
language sql immutable as $$
  select code || '#c' || substr(encode(sha256(convert_to(collection, 'UTF8')), 'hex'), 1, 20);
$$;

create function metadata_token(code text, key text, value text) returns text
language sql immutable as $$
  select code || '#m' || substr(encode(sha256(convert_to(key, 'UTF8') || '\x00' || convert_to(value, 'UTF8')), 'hex'), 1, 20);
$$;
