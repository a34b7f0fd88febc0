/**
 * Statements that write vectors, and the queue of texts that wait for one: see writes.ts for how they are run.
 *
 * The queue is a temporary table that triggers of this connection fill, so that it costs nothing where no embedding
 * model is configured, and holds exactly what was committed. What a crash takes of it, the walk at the next start finds.
 */
import type { Database, SQLQueryBindings } from "bun:sqlite";
import type { SpaceKey } from "../quantize.ts";
import type { TextToEmbed } from "../vector-store.ts";
import { type PackedVector, unpacked } from "./packed.ts";
import { createTextsToEmbed } from "./texts-to-embed.ts";

const queue = `
  pragma temp_store = memory;
  create temp table texts_to_embed (
    place integer primary key,
    kind text not null,
    n integer not null,
    unique (kind, n)
  ) strict;
  create temp trigger message_to_embed after update of status on main.turns
    when old.status = 'running' and new.status <> 'running' begin
    insert or ignore into texts_to_embed (kind, n) values ('message', new.user_message_n), ('message', new.n);
  end;
  create temp trigger memory_to_embed after insert on main.memories begin
    insert or ignore into texts_to_embed (kind, n) values ('memory', new.n);
  end;
  create temp trigger reworded_memory_to_embed after update of text on main.memories begin
    insert or ignore into texts_to_embed (kind, n) values ('memory', new.n);
  end;
  create temp trigger passage_to_embed after insert on main.passages begin
    insert or ignore into texts_to_embed (kind, n) values ('passage', new.n);
  end;`;

export type VectorWrites = ReturnType<typeof createVectorWrites>;

/** @param complete indexes what this transaction has ended, because what is not indexed isn't to be found */
export function createVectorWrites(db: Database, complete: () => void) {
  db.run(queue);
  const textToEmbed = createTextsToEmbed(db);
  const statement = (sql: string) => db.query<Record<string, string | number>, SQLQueryBindings>(sql);
  const waiting = statement("select kind, n from texts_to_embed order by place limit $limit");
  const dequeue = statement("delete from texts_to_embed where kind = $kind and n = $n");
  const findSpace = statement(
    "select n from vector_spaces where model = $model and dimensions = $dimensions",
  );
  const insertSpace = statement(
    "insert into vector_spaces (model, dimensions) values ($model, $dimensions) returning n",
  );
  const save = {
    message: statement(`insert or replace into message_vectors (n, space_n, user_n, code, vector)
      values ($n, $space_n, $owner_n, $code, $vector)`),
    memory: statement(
      "insert or replace into memory_vectors (n, space_n, vector) values ($n, $space_n, $vector)",
    ),
    passage: statement(`insert or replace into passage_vectors (n, space_n, revision_n, code, vector)
      values ($n, $space_n, $owner_n, $code, $vector)`),
  };

  return {
    newTexts(limit: number): TextToEmbed[] {
      complete();
      const texts: TextToEmbed[] = [];
      for (const row of waiting.all({ limit })) {
        const kind = row.kind as TextToEmbed["kind"];
        const stored = textToEmbed(kind, row.n as number);
        if (stored === null) {
          dequeue.run({ kind, n: row.n! });
          continue;
        }
        const { owner_n: _, ...text } = stored;
        texts.push(text);
      }
      return texts;
    },

    saveVectors(space: SpaceKey, vectors: readonly PackedVector[]): void {
      const space_n = (findSpace.get({ ...space }) ?? insertSpace.get({ ...space })!).n!;
      for (const { kind, n, mark, values } of vectors) {
        const stored = textToEmbed(kind, n);
        // A text that has changed since stays in the queue.
        if (stored !== null && stored.mark !== mark) continue;
        dequeue.run({ kind, n });
        if (stored === null) continue;
        const { vector, code } = values === null ? { vector: null, code: null } : unpacked(values);
        save[kind].run({ n, space_n, owner_n: stored.owner_n, code, vector });
      }
    },
  };
}
