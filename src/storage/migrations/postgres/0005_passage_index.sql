-- lexemes has the words and stems of a passage and of its heading, its scope's code, tokens of its collection and of each
-- pair of metadata, and its stretches. The texts are long: they go where a look-up doesn't meet them.
create table passage_index (
  n bigint primary key references passages (n) on delete cascade,
  revision_n bigint not null,
  lexemes tsvector not null
) with (toast_tuple_target = 128);

alter table passage_index alter column lexemes set storage external;
-- New entries wait in a list, because adding many at once costs a fourth; every search goes through it, so it is short.
create index passage_lexemes on passage_index using gin (lexemes) with (gin_pending_list_limit = 512);

call make_searchable('passage_index', 'lexemes', 'i.revision_n <> all(hidden)');

-- Indexes a passage of a revision that is being stored. with_words is what passageLexemes of indexed.ts gives.
create function index_passage(of_passage bigint, of_revision bigint, with_words text) returns void
language sql as $$
  insert into passage_index (n, revision_n, lexemes)
  select of_passage, r.n, array_to_tsvector(array[code, collection_token(code, d.collection)]
    || array(select metadata_token(code, m.key, m.value) from json_each_text(r.metadata) m)
    || stretches(code, of_passage) || with_code(code, with_words))
  from document_revisions r join documents d on d.n = r.document_n, scope_code(d.scope_n) code where r.n = of_revision;
$$;
