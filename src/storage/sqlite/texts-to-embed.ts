/** The texts that get vectors: messages that recall may find, memories, passages. */
import type { Database, SQLQueryBindings } from "bun:sqlite";
import { embeddedCharsMax, type TextToEmbed } from "../vector-store.ts";

/** The end of the message before, which tells what a short answer is about. */
const contextChars = 200;

interface Row {
  text: string;
  context: string | null;
  /** The user of a message, the revision of a passage. */
  owner_n: number | null;
}

export interface StoredText extends TextToEmbed {
  owner_n: number | null;
}

export function createTextsToEmbed(db: Database) {
  const statement = (sql: string) => db.query<Row, SQLQueryBindings>(sql);
  // Nothing of what was deleted and is still to be erased.
  const byKind = {
    message: statement(`select m.content as text, c.user_n as owner_n, (
        select substr(b.content, -${contextChars}) from messages b join message_index bi on bi.rowid = b.n
        where b.conversation_n = m.conversation_n and b.seq = m.seq - 1 and bi.scope <> '') as context
      from messages m join message_index i on i.rowid = m.n join conversations c on c.n = m.conversation_n
        join users u on u.n = c.user_n
      where m.n = $n and i.scope <> '' and c.deleted = 0 and u.user_id is not null`),
    memory:
      statement(`select m.text, null as context, null as owner_n from memories m join users u on u.n = m.user_n
      where m.n = $n and m.superseded_by is null and u.user_id is not null`),
    passage: statement(`select p.text, nullif(p.heading, '') as context, p.revision_n as owner_n
      from passages p join document_revisions r on r.n = p.revision_n join documents d on d.n = r.document_n
        left join users u on u.n = d.user_n
      where p.n = $n and r.status <> 'failed' and (d.user_n is null or u.user_id is not null)`),
  };

  /** A text as it is now; null where there is none that can be found. */
  return function textToEmbed(kind: TextToEmbed["kind"], n: number): StoredText | null {
    const row = byKind[kind].get({ n });
    if (row === null || row.text.trim() === "") return null;
    const text = row.context === null ? row.text : `${row.context}\n${row.text}`;
    const mark = Bun.hash(text).toString(36);
    return { kind, n, mark, text: text.slice(0, embeddedCharsMax).toWellFormed(), owner_n: row.owner_n };
  };
}
