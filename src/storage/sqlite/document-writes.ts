/** Statements that write documents: see writes.ts for how they are run. */
import type { Database, SQLQueryBindings } from "bun:sqlite";
import type { ErrorCode } from "../../errors.ts";
import type {
  BegunRevision,
  DocumentRecord,
  DocumentScope,
  NewPassage,
  NewRevision,
  RevisionAttempt,
  TextPart,
} from "../document-store.ts";
import { createDocumentReads } from "./document-reads.ts";
import { createDocumentScopes } from "./document-scopes.ts";
import { indexedPassage } from "./indexed.ts";
import { documentScope } from "./scope.ts";

/** What one call overwrites at most, so that it holds up no turn: each passage takes 3 ms to leave the index. */
const wastePassagesMax = 8;
const wastePartsMax = 16;

interface RevisionRow {
  n: number;
  document_n: number;
  version: number;
  scope: string;
  scope_n: number;
}

/**
 * @param ensureUser the row of a user, made where there is none
 * @param markUncleaned notes that words of deleted text are left in an index
 */
export function createDocumentWrites(
  db: Database,
  ensureUser: (workspaceId: string, userId: string, now: number) => number,
  markUncleaned: (index: "passage_index") => void,
) {
  const reads = createDocumentReads(db);
  const statement = (sql: string) => db.query<Record<string, string | number | null>, SQLQueryBindings>(sql);

  const documentScopeOf = createDocumentScopes(db);
  const findDocument = statement(
    "select n from documents where scope_n = $scope_n and collection = $collection and name = $name",
  );
  const insertDocument = statement(`insert into documents
    (id, workspace_id, user_n, scope_n, collection, name, created_at, updated_at)
    values ($id, $workspace_id, $user_n, $scope_n, $collection, $name, $now, $now) returning n`);
  const newestRevision = statement(`select version, content_hash, metadata, status from document_revisions
    where document_n = $n order by n desc limit 1`);
  const insertRevision = statement(`insert into document_revisions
    (id, document_n, version, status, scope, media_type, metadata, content_hash, bytes, created_at)
    values ($id, $document_n, $version, 'processing', $scope, $media_type, $metadata, $content_hash, $bytes, $now)`);
  // One that is still on its way has lost its race: the newer content counts.
  const dropUnfinished = statement(
    "update document_revisions set document_n = null where document_n = $document_n and status <> 'ready'",
  );
  const findRevision = db.query<RevisionRow, SQLQueryBindings>(
    `select r.n, r.document_n, r.version, r.scope, d.scope_n
     from document_revisions r join documents d on d.n = r.document_n
     where r.id = $id and r.status = 'processing'`,
  );
  const insertPart = statement(
    "insert or ignore into document_parts (revision_n, start, text) values ($revision_n, $start, $text)",
  );
  const insertPassage = statement(`insert into passages (revision_n, seq, start, end, heading, text, tokens)
    values ($revision_n, $seq, $start, $end, $heading, $text, $tokens) on conflict do nothing returning n`);
  const indexPassage = statement(`insert into passage_index (rowid, scope, heading, words, stems)
    values ($n, $scope, $heading, $words, $stems)`);
  const setProgress = statement("update document_revisions set progress = $progress where n = $n");
  const finish =
    statement(`update document_revisions set status = 'ready', progress = 1, media_type = $media_type,
    length = $length, passage_count = (select count(*) from passages where revision_n = $n), ended_at = $now
    where n = $n`);
  const makePresent = statement(
    "update documents set revision_n = $n, updated_at = $now where n = $document_n",
  );
  const replaceOlder = statement(
    "update document_revisions set document_n = null where document_n = $document_n and n < $n",
  );
  const fail = statement(`update document_revisions set status = 'failed', error_code = $code,
    error_message = $message, ended_at = $now where n = $n`);
  const forgetRevision = statement("update document_revisions set document_n = null where n = $n");
  const dropEmptyDocument = statement(`delete from documents where n = $document_n
    and not exists (select 1 from document_revisions where document_n = $document_n)`);
  const dropDocument = statement("delete from documents where id = $id");
  const wasted = statement("select n, id from document_revisions where document_n is null limit 1");
  const wastePassages = statement("select n from passages where revision_n = $revision_n limit $limit");
  const dropFromIndex = statement("delete from passage_index where rowid = $n");
  const dropPassage = statement("delete from passages where n = $n");
  const dropParts = statement(`delete from document_parts where (revision_n, start) in
    (select revision_n, start from document_parts where revision_n = $revision_n limit $limit)`);
  const dropRevision = statement("delete from document_revisions where n = $n");

  /** By revision: how often its storing was begun. Nobody of an earlier process is left to be shut out. */
  const attempts = new Map<string, number>();

  /** The row of a revision that an attempt may add to; null where it is gone or another attempt was begun. */
  const revisionOf = ({ revision_id: id, attempt }: RevisionAttempt): RevisionRow | null =>
    attempts.get(id) === attempt ? findRevision.get({ id }) : null;

  /** Overwrites some passages and parts of a revision; how many rows that was. */
  function clearRevision(revision_n: number): number {
    const rows = wastePassages.all({ revision_n, limit: wastePassagesMax });
    for (const { n } of rows) {
      dropFromIndex.run({ n: n! });
      dropPassage.run({ n: n! });
    }
    if (rows.length > 0) {
      markUncleaned("passage_index");
      return rows.length;
    }
    return dropParts.run({ revision_n, limit: wastePartsMax }).changes;
  }

  const operations = {
    beginRevision(workspace_id: string, revision: NewRevision): BegunRevision {
      const { collection, name, owner, media_type, content_hash, bytes } = revision;
      const now = Math.floor(revision.now_ms / 1000);
      const metadata = JSON.stringify(revision.metadata);
      const user_n = owner === null ? null : ensureUser(workspace_id, owner, now);
      const whose = { workspace_id, user_n };
      const scope_n = documentScopeOf(workspace_id, user_n);
      const known = findDocument.get({ scope_n, collection, name });
      const newest = known && newestRevision.get({ n: known.n! });
      const same = newest?.content_hash === content_hash && newest.metadata === metadata;
      if (known && same && newest.status !== "failed") {
        return { document: reads.documentOf(known.n as number), unchanged: true, created: false };
      }
      const id = revision.document_id;
      const n = (known ?? insertDocument.get({ id, ...whose, scope_n, collection, name, now })!).n as number;
      dropUnfinished.run({ document_n: n });
      insertRevision.run({
        id: revision.revision_id,
        document_n: n,
        version: Number(newest?.version ?? 0) + 1,
        scope: documentScope(scope_n, collection, revision.metadata),
        media_type,
        metadata,
        content_hash,
        bytes,
        now,
      });
      return { document: reads.documentOf(n), unchanged: false, created: known === null };
    },

    /** What was stored of the revision is to be forgotten then. */
    beginAttempt(revision_id: string): RevisionAttempt | null {
      if (findRevision.get({ id: revision_id }) === null) return null;
      const attempt = (attempts.get(revision_id) ?? 0) + 1;
      attempts.set(revision_id, attempt);
      return { revision_id, attempt };
    },

    /** Forgets some of what was stored of a revision; true where there is more. */
    resetRevision(attempt: RevisionAttempt): boolean {
      const revision = revisionOf(attempt);
      return revision !== null && clearRevision(revision.n) > 0;
    },

    addToRevision(
      attempt: RevisionAttempt,
      parts: TextPart[],
      passages: NewPassage[],
      progress: number,
    ): boolean {
      const revision = revisionOf(attempt);
      if (revision === null) return false;
      const { n: revision_n, scope, scope_n } = revision;
      for (const { start, text } of parts) insertPart.run({ revision_n, start, text });
      for (const { heading, text, ...passage } of passages) {
        const inserted = insertPassage.get({ revision_n, heading, text, ...passage });
        if (inserted === null) continue;
        const n = inserted.n!;
        indexPassage.run({ n, scope, ...indexedPassage(scope_n, heading, text) });
      }
      setProgress.run({ n: revision_n, progress });
      return true;
    },

    finishRevision(
      attempt: RevisionAttempt,
      media_type: string,
      length: number,
      nowMs: number,
    ): DocumentRecord | null {
      const revision = revisionOf(attempt);
      if (revision === null) return null;
      attempts.delete(attempt.revision_id);
      const { n, document_n } = revision;
      const now = Math.floor(nowMs / 1000);
      finish.run({ n, media_type, length, now });
      makePresent.run({ n, document_n, now });
      replaceOlder.run({ n, document_n });
      return reads.documentOf(document_n);
    },

    /** False where there was nothing to end. */
    failRevision(
      attempt: RevisionAttempt,
      { code, message }: { code: ErrorCode; message: string },
      keep: boolean,
      nowMs: number,
    ): boolean {
      const revision = revisionOf(attempt);
      if (revision === null) return false;
      attempts.delete(attempt.revision_id);
      const { n, document_n } = revision;
      if (keep) {
        fail.run({ n, code, message, now: Math.floor(nowMs / 1000) });
        return true;
      }
      forgetRevision.run({ n });
      dropEmptyDocument.run({ document_n });
      return true;
    },

    /** Tells which revision is gone now, because its upload may be there still, and whether there is more. */
    clearWaste(): { gone: string | null; more: boolean } {
      const revision = wasted.get({});
      if (revision === null) return { gone: null, more: false };
      const { n, id } = revision as { n: number; id: string };
      if (clearRevision(n) > 0) return { gone: null, more: true };
      dropRevision.run({ n });
      attempts.delete(id);
      return { gone: id, more: true };
    },

    deleteDocument(scope: DocumentScope, id: string): boolean {
      const found = reads.document(scope, id);
      if (found === null || (scope.user_id !== null && found.user_id === null)) return false;
      dropDocument.run({ id });
      return true;
    },
  };

  return operations;
}
