/** The documents of an archive, with their text and passages: see writes.ts. */
import {
  answerToPassages,
  answerToText,
  type DocumentGroup,
  foundAs,
  knownDocument,
  otherDocument,
  otherRevision,
  unknownUser,
  unknownWorkspace,
} from "../../archive-rules.ts";
import type { ArchivedDocument, ArchivedPassages, ArchivedText } from "../../archive-store.ts";
import { type Queries, toJson } from "../database.ts";
import { passageLexemes } from "../indexed.ts";
import { type Keepers, type LastRows, userN } from "./context.ts";

export function createDocumentKeepers({ rows, row }: Queries, before: LastRows) {
  let group: DocumentGroup | null = null;

  const keepers: Keepers<"document" | "document_text" | "document_passages"> = {
    async document(document: ArchivedDocument) {
      const { id, workspace_id, user_id, collection, name, created_at, updated_at, revision } = document;
      const there = await row<{
        n: number | null;
        workspace: boolean;
        user_n: number | null;
        revision: boolean;
      }>(
        `select (select n::float8 from documents where id = $id) as n,
           exists (select from workspaces where id = $workspace_id) as workspace, ${userN},
           exists (select from document_revisions where id = $revision_id) as revision`,
        { id, workspace_id, user_id, revision_id: revision.id },
      );
      const known = foundAs(there!.n, before.documents);
      if (known === "known") group = knownDocument(document);
      if (known !== null) return known;
      if (!there!.workspace) return unknownWorkspace;
      const { user_n } = there!;
      if (user_n === null && user_id !== null) return unknownUser;
      const named = await row(
        `select 1 from documents where workspace_id = $workspace_id and user_n is not distinct from $user_n::int8
         and collection = $collection and name = $name`,
        { workspace_id, user_n, collection, name },
      );
      if (named !== null) return otherDocument;
      if (there!.revision) return otherRevision;
      await rows(
        "insert into document_scopes (workspace_id, user_n) values ($workspace_id, $user_n::int8) on conflict do nothing",
        { workspace_id, user_n },
      );
      const isReady = revision.status === "ready";
      const { metadata, error, ...columns } = revision;
      const made = await row<{ n: number }>(
        `with revision as (select nextval(pg_get_serial_sequence('document_revisions', 'n')) as n),
         document as (
           insert into documents (id, workspace_id, user_n, scope_n, collection, name, revision_n, created_at, updated_at)
           select $id, $workspace_id, $user_n::int8, s.n, $collection, $name,
             case when $is_ready::boolean then revision.n end, $created_at::int8, $updated_at::int8
           from revision join document_scopes s
             on s.workspace_id = $workspace_id and s.user_n is not distinct from $user_n::int8
           returning n)
         insert into document_revisions (n, id, document_n, version, status, media_type, metadata, content_hash, bytes,
           progress, error_code, error_message, created_at, ended_at)
         select revision.n, $revision_id, document.n, $version::int4, $status, $media_type, $metadata::text::json,
           $content_hash, $bytes::int8, case when $is_ready::boolean then 1 else 0 end, $error_code, $error_message,
           $begun_at::int8, $ended_at::int8
         from revision, document returning n::float8`,
        {
          id,
          workspace_id,
          user_n,
          collection,
          name,
          created_at,
          updated_at,
          is_ready: isReady,
          revision_id: columns.id,
          version: columns.version,
          status: columns.status,
          media_type: columns.media_type,
          metadata: toJson(metadata),
          content_hash: columns.content_hash,
          bytes: columns.bytes,
          error_code: error?.code ?? null,
          error_message: error?.message ?? null,
          begun_at: columns.created_at,
          ended_at: columns.ended_at,
        },
      );
      group = { ...knownDocument(document), isNew: true, revision_n: made!.n, isReady };
      return "kept";
    },

    async document_text(part: ArchivedText) {
      const answer = answerToText(group, part);
      if (answer !== null) return answer;
      const { start, text } = part;
      await rows(
        "insert into document_parts (revision_n, start, text) values ($n::int8, $start::int4, $text)",
        {
          n: group!.revision_n,
          start,
          text,
        },
      );
      group!.length += text.length;
      return "kept";
    },

    async document_passages(record: ArchivedPassages) {
      const answer = answerToPassages(group, record);
      if (answer !== null) return answer;
      await keepPassages(group!, record.passages);
      return "kept";
    },
  };

  async function keepPassages(
    document: DocumentGroup,
    passages: ArchivedPassages["passages"],
  ): Promise<void> {
    if (passages.length === 0) return;
    const { revision_n } = document;
    const parts = await rows<{ start: number; text: string }>(
      `select start, text from document_parts where revision_n = $n::int8 and start < $end::int4 and start >=
         (select max(start) from document_parts where revision_n = $n::int8 and start <= $start::int4) order by start`,
      {
        n: revision_n,
        start: Math.min(...passages.map(({ start }) => start)),
        end: Math.max(...passages.map(({ end }) => end)),
      },
    );
    const first = parts[0]!.start;
    const covered = parts.map(({ text }) => text).join("");
    const given = passages.map(({ start, end, heading, tokens }) => {
      const text = covered.slice(start - first, end - first);
      const seq = ++document.passages;
      return { seq, start, end, heading, text, tokens, lexemes: passageLexemes(heading, text) };
    });
    await rows(
      `with given as (select * from json_to_recordset($passages::text::json) p
           (seq integer, start integer, "end" integer, heading text, text text, tokens integer, lexemes text)),
         added as (
           insert into passages (revision_n, seq, start, "end", heading, text, tokens)
           select $n::int8, seq, start, "end", heading, text, tokens from given order by seq returning n, revision_n, seq)
       select index_passage(a.n, a.revision_n, g.lexemes) from added a join given g using (seq)`,
      { n: revision_n, passages: toJson(given) },
    );
  }

  /** Completes the document that has come to its end. */
  async function end(): Promise<void> {
    if (group?.isNew) {
      const { revision_n, length, passages } = group;
      await rows(
        "update document_revisions set length = $length::int4, passage_count = $passages::int4 where n = $n::int8",
        { n: revision_n, length, passages },
      );
    }
    group = null;
  }

  return { keepers, end };
}
