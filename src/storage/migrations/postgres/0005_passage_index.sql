-- lexemes has the words and stems of a passage and of its heading, its scope's code, tokens of its collection and of each
-- pair of metadata, and its stretches. The texts are long: they go where a look-up doesn't meet them.
create table passage_index (
  n bigint primary key references passages (n) on delete cascade,
  revision_n bigint not null,
  lexemes tsvector not null
) with (toast_tuple_target = 128);

alter table passage_index alter column lexemes set storage external;
create index passage_lexemes on passage_index using gin (lexemes) with (fastupdate = off);

-- Indexes a passage of a revision that is being stored. words are what passageLexemes of indexed.ts gives.
create function index_passage(of_passage bigint, of_revision bigint, words text) returns void
language plpgsql as $$
declare
  code text;
  tokens text[];
begin
  select scope_code(d.scope_n), array[collection_token(scope_code(d.scope_n), d.collection)] || array(
      select metadata_token(scope_code(d.scope_n), m.key, m.value) from json_each_text(r.metadata) m)
    into code, tokens
  from document_revisions r join documents d on d.n = r.document_n where r.n = of_revision;
  insert into passage_index (n, revision_n, lexemes)
    values (of_passage, of_revision,
      array_to_tsvector(array[code] || tokens || stretches(code, of_passage) || with_code(code, words)));
end;
$$;
