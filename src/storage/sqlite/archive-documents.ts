/** The documents of an archive, with their text and passages: see archive-writes.ts. */
import type { Database, SQLQueryBindings } from "bun:sqlite";
import type { ArchivedDocument, ArchivedPassages, ArchivedText } from "../archive-store.ts";
import {
  type ArchiveContext,
  type Group,
  type Keepers,
  refused,
  unknownUser,
  unknownWorkspace,
} from "./archive-context.ts";
import { createDocumentScopes } from "./document-scopes.ts";
import { indexedPassage } from "./indexed.ts";
import { documentScope } from "./scope.ts";

interface DocumentGroup extends Group {
  revision_n: number;
  scope_n: number;
  scope: string;
  isReady: boolean;
  length: number;
  passages: number;
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
  let group: DocumentGroup | null = null;

  const keepers: Keepers<"document" | "document_text" | "document_passages"> = {
    document(document: ArchivedDocument) {
      const { id, workspace_id, user_id, collection, name, created_at, updated_at, revision } = document;
      const known = found("documents", findDocument.get({ id }));
      const begun = { id, length: 0, passages: 0 };
      if (known === "known")
        group = { ...begun, isNew: false, revision_n: 0, scope_n: 0, scope: "", isReady: true };
      if (known !== null) return known;
      if (!hasWorkspace(workspace_id)) return unknownWorkspace;
      const user_n = user_id === null ? null : userOf(workspace_id, user_id);
      if (user_n === null && user_id !== null) return unknownUser;
      if (findName.get({ workspace_id, user_n, collection, name }) !== null) {
        return refused("there is another document of its name");
      }
      if (findRevision.get({ id: revision.id }) !== null)
        return refused("there is another revision of its id");
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
      group = { ...begun, isNew: true, revision_n, scope_n, scope, isReady };
      return "kept";
    },

    document_text({ document_id, start, text }: ArchivedText) {
      if (group?.id !== document_id) return refused("it doesn't follow its document");
      if (!group.isNew) return "known";
      if (!group.isReady) return refused("a document that has failed has no text");
      if (start !== group.length || group.passages > 0) {
        return refused("it doesn't begin where the text before it ends");
      }
      insertPart.run({ revision_n: group.revision_n, start, text });
      group.length += text.length;
      return "kept";
    },

    document_passages({ document_id, passages }: ArchivedPassages) {
      if (group?.id !== document_id) return refused("they don't follow their document");
      if (!group.isNew) return "known";
      for (const passage of passages) {
        if (passage.start >= passage.end || passage.end > group.length) {
          return refused("a passage lies outside of the document's text");
        }
        keepPassage(group, passage);
      }
      return "kept";
    },
  };

  function keepPassage(
    document: DocumentGroup,
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
