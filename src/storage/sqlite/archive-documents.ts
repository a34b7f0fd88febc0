/** The documents of an archive, with their text and passages: see archive-writes.ts. */
import type { Database, SQLQueryBindings } from "bun:sqlite";
import {
  answerToPassages,
  answerToText,
  type DocumentGroup,
  knownDocument,
  otherDocument,
  otherRevision,
  unknownUser,
  unknownWorkspace,
} from "../archive-rules.ts";
import type { ArchivedDocument, ArchivedPassages, ArchivedText } from "../archive-store.ts";
import type { ArchiveContext, Keepers } from "./archive-context.ts";
import { createDocumentScopes } from "./document-scopes.ts";
import { indexedPassage } from "./indexed.ts";
import { documentScope } from "./scope.ts";

interface IndexedGroup extends DocumentGroup {
  scope_n: number;
  scope: string;
}

export function createDocumentKeepers(db: Database, { found, userOf, hasWorkspace, index }: ArchiveContext) {
  const statement = (sql: string) => db.query<Record<string, string | number | null>, SQLQueryBindings>(sql);
  const documentScopeOf = createDocumentScopes(db);
  const findDocument = statement("select n from documents where id = $id");
  const findName = statement(`select n from documents where workspace_id = $workspace_id
    and coalesce(user_n, 0) = coalesce($user_n, 0) and collection = $collection and name = $name`);
  const findRevision = statement("select n from document_revisions where id = $id");
  const insertDocument = statement(`insert into documents
    (id, workspace_id, user_n, scope_n, collection, name, created_at, updated_at)
    values ($id, $workspace_id, $user_n, $scope_n, $collection, $name, $created_at, $updated_at) returning n`);
  const insertRevision = statement(`insert into document_revisions
    (id, document_n, version, status, scope, media_type, metadata, content_hash, bytes, progress, error_code,
      error_message, created_at, ended_at)
    values ($id, $document_n, $version, $status, $scope, $media_type, $metadata, $content_hash, $bytes, $progress,
      $error_code, $error_message, $created_at, $ended_at) returning n`);
  const makePresent = statement("update documents set revision_n = $revision_n where n = $n");
  const completeRevision = statement(
    "update document_revisions set length = $length, passage_count = $passages where n = $revision_n",
  );
  const insertPart = statement(
    "insert into document_parts (revision_n, start, text) values ($revision_n, $start, $text)",
  );
  const partsFrom = db.query<{ start: number; text: string }, SQLQueryBindings>(`select start, text
    from document_parts where revision_n = $revision_n and start < $end and start >=
      (select max(start) from document_parts where revision_n = $revision_n and start <= $start) order by start`);
  const insertPassage = statement(`insert into passages (revision_n, seq, start, end, heading, text, tokens)
    values ($revision_n, $seq, $start, $end, $heading, $text, $tokens) returning n`);
  const indexPassage = statement(`insert into passage_index (rowid, scope, heading, words, stems)
    values ($n, $scope, $heading, $words, $stems)`);
  let group: IndexedGroup | null = null;

  const keepers: Keepers<"document" | "document_text" | "document_passages"> = {
    document(document: ArchivedDocument) {
      const { id, workspace_id, user_id, collection, name, created_at, updated_at, revision } = document;
      const known = found("documents", findDocument.get({ id }));
      if (known === "known") group = { ...knownDocument(document), scope_n: 0, scope: "" };
      if (known !== null) return known;
      if (!hasWorkspace(workspace_id)) return unknownWorkspace;
      const user_n = user_id === null ? null : userOf(workspace_id, user_id);
      if (user_n === null && user_id !== null) return unknownUser;
      if (findName.get({ workspace_id, user_n, collection, name }) !== null) {
        return otherDocument;
      }
      if (findRevision.get({ id: revision.id }) !== null) return otherRevision;
      const scope_n = documentScopeOf(workspace_id, user_n);
      const whose = { workspace_id, user_n, scope_n };
      const n = insertDocument.get({ id, ...whose, collection, name, created_at, updated_at })!.n as number;
      const scope = documentScope(scope_n, collection, revision.metadata);
      const isReady = revision.status === "ready";
      const { metadata, error, ...columns } = revision;
      const revision_n = insertRevision.get({
        ...columns,
        document_n: n,
        scope,
        metadata: JSON.stringify(metadata),
        progress: Number(isReady),
        error_code: error?.code ?? null,
        error_message: error?.message ?? null,
      })!.n as number;
      if (isReady) makePresent.run({ n, revision_n });
      group = { ...knownDocument(document), isNew: true, revision_n, scope_n, scope, isReady };
      return "kept";
    },

    document_text(part: ArchivedText) {
      const answer = answerToText(group, part);
      if (answer !== null) return answer;
      const { start, text } = part;
      insertPart.run({ revision_n: group!.revision_n, start, text });
      group!.length += text.length;
      return "kept";
    },

    document_passages(record: ArchivedPassages) {
      const answer = answerToPassages(group, record);
      if (answer !== null) return answer;
      for (const passage of record.passages) keepPassage(group!, passage);
      return "kept";
    },
  };

  function keepPassage(
    document: IndexedGroup,
    { start, end, heading, tokens }: ArchivedPassages["passages"][number],
  ): void {
    const { revision_n, scope_n, scope } = document;
    const parts = partsFrom.all({ revision_n, start, end });
    const first = parts[0]!.start;
    const text = parts
      .map((part) => part.text)
      .join("")
      .slice(start - first, end - first);
    const n = insertPassage.get({ revision_n, seq: ++document.passages, start, end, heading, text, tokens })!
      .n as number;
    index(() => indexPassage.run({ n, scope, ...indexedPassage(scope_n, heading, text) }));
  }

  /** Completes the document that has come to its end. */
  function end(): void {
    if (group?.isNew) {
      const { revision_n, length, passages } = group;
      completeRevision.run({ revision_n, length, passages });
    }
    group = null;
  }

  return { keepers, end };
}
