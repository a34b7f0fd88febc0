/**
 * Nearest neighbours, by sqlite-vec's functions over plain tables. All of a scope is looked at: by the codes of its
 * vectors, from an index that holds them, then exactly for the best of those. A scope that is smaller than that is
 * searched exactly.
 */
import type { Database, SQLQueryBindings } from "bun:sqlite";
import { type Near, nearOf } from "../../search/similarity.ts";
import type { PassageQuery } from "../document-store.ts";
import type { UserScope } from "../memory-store.ts";
import type { NearMemory } from "../vector-store.ts";
import { type Packed, type PackedQuestion, unpacked } from "./packed.ts";

/** Vectors that are compared exactly: enough that hardly one of the nearest is missed at 256 dimensions. */
const comparedMax = 512;

interface Compared<Key> {
  key: Key;
  cosine: number;
}

export type Nearest = ReturnType<typeof createNearest>;

/** @param db a connection that has loaded sqlite-vec */
export function createNearest(db: Database) {
  const spaceOf = db.query<{ n: number }, SQLQueryBindings>(
    "select n from vector_spaces where model = $model and dimensions = $dimensions",
  );
  const count = (sql: string) => db.query<{ texts: number }, SQLQueryBindings>(sql);
  const byCode = "order by vec_distance_hamming(vec_bit(v.code), vec_bit($code)) limit $limit";
  const cosine = "1 - vec_distance_cosine(vec_int8(vector), vec_int8($vector)) as cosine";
  const messages = db.query<Compared<number>, SQLQueryBindings>(
    `select n as key, ${cosine} from message_vectors where n in (
       select v.n from message_vectors v indexed by message_codes
       where v.user_n = $user_n and v.space_n = $space_n and v.code is not null and v.n not in (
         select m.n from messages m join conversations c on c.n = m.conversation_n
         where c.id = $conversation_id and m.seq >= $shown_from_seq)
       ${byCode})`,
  );
  const countMessages = count(
    `select count(*) as texts from message_vectors indexed by message_codes
     where user_n = $user_n and space_n = $space_n`,
  );
  const memories = db.query<Compared<string>, SQLQueryBindings>(
    `select m.id as key, ${cosine} from users u join memories m on m.user_n = u.n
       join memory_vectors v on v.n = m.n and v.space_n = $space_n
     where u.workspace_id = $workspace_id and u.user_id = $user_id and m.superseded_by is null
       and v.vector is not null`,
  );
  // The newest revision of each document.
  const inScope = `d.workspace_id = $workspace_id and (d.user_n is null or d.user_n = $user_n)
    and ($collections is null or d.collection in (select value from json_each($collections)))
    and ($filter is null or not exists (
      select 1 from json_each($filter) wanted where not exists (
        select 1 from json_each(r.metadata) has where has.key = wanted.key and has.value = wanted.value)))`;
  // A cross join is SQLite's word for going through its left side first.
  const passages = db.query<Compared<number>, SQLQueryBindings>(
    `select n as key, ${cosine} from passage_vectors where n in (
       select v.n from documents d join document_revisions r on r.n = d.revision_n
       cross join passage_vectors v indexed by passage_codes
         on v.revision_n = d.revision_n and v.space_n = $space_n and v.code is not null
       where ${inScope} ${byCode})`,
  );
  const countPassages = count(
    `select coalesce(sum(r.passage_count), 0) as texts
     from documents d join document_revisions r on r.n = d.revision_n where ${inScope}`,
  );

  /** What all queries with a question bind; null where nothing is in its space. */
  function bindingsOf(question: PackedQuestion) {
    const { model, dimensions } = question;
    const space = spaceOf.get({ model, dimensions });
    return space && { space_n: space.n, ...unpacked(question), limit: comparedMax };
  }

  return {
    /** A user's messages, without those of a conversation from a seq on. */
    messages(
      user_n: number,
      question: PackedQuestion,
      shown: { conversation_id: string; shown_from_seq: number },
    ): Near<number>[] {
      const bindings = bindingsOf(question);
      if (bindings === null) return [];
      const { conversation_id, shown_from_seq } = shown;
      const compared = messages.all({ ...bindings, user_n, conversation_id, shown_from_seq });
      return nearOf(compared, question.unrelated, countMessages.get({ ...bindings, user_n })!.texts);
    },

    /** A user's memories that hold. */
    memories(user: UserScope, question: PackedQuestion): NearMemory[] {
      const bindings = bindingsOf(question);
      if (bindings === null) return [];
      const compared = memories.all({ ...bindings, ...user });
      return nearOf(compared, question.unrelated, compared.length).map(({ key: id, z }) => ({ id, z }));
    },

    /** Passages of the documents that a query is about. @param user_n null where no user's own are among them */
    passages(query: Packed<PassageQuery>, user_n: number | null, question: PackedQuestion): Near<number>[] {
      const bindings = bindingsOf(question);
      if (bindings === null) return [];
      const { workspace_id, collections, filter } = query;
      const scoped = {
        ...bindings,
        workspace_id,
        user_n,
        collections: collections && JSON.stringify(collections),
        filter: filter && JSON.stringify(filter),
      };
      return nearOf(passages.all(scoped), question.unrelated, countPassages.get(scoped)!.texts);
    },
  };
}
