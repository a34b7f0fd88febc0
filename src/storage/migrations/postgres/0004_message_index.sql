-- What a search for conversations and recall go through. words are as words.ts cuts them, terms their stems; user_n is
-- whose recall may find the message, nobody's where it is null. A message is indexed at the end of its turn.
create table message_index (
  n bigint primary key references messages (n) on delete cascade,
  user_n bigint,
  words text not null,
  terms text not null
);

create function index_message(of_message bigint, of_user bigint, with_words text, with_terms text) returns void
language sql as $$
  insert into message_index (n, user_n, words, terms)
    values (of_message, of_user, with_words, case when of_user is null then '' else with_terms end);
$$;
