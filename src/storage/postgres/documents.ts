/** Documents, their revisions and passages. The longer statements are in 0009_documents.sql. */
import type { ErrorCode } from "../../errors.ts";
import type {
  DocumentCursor,
  DocumentRecord,
  DocumentScope,
  DocumentStore,
  RevisionToProcess,
  TextPart,
} from "../document-store.ts";
import { type Binding, type Database, type Queries, toJson } from "./database.ts";
import { passageLexemes } from "./indexed.ts";

/** Of the pieces that an upload is stored in: so much more memory than the upload a server needs for it. */
const pieceBytes = 1024 * 1024;

interface DocumentRow extends Omit<DocumentRecord, "error"> {
  error_code: ErrorCode | null;
  error_message: string | null;
}

const toDocument = ({ error_code, error_message, ...row }: DocumentRow): DocumentRecord => ({
  ...row,
  error: error_code === null ? null : { code: error_code, message: error_message ?? "" },
});

const selectDocument = `select d.id, d.collection, d.name, d.user_id, d.status, d.progress, d.error_code,
    d.error_message, d.version, d.media_type, d.metadata, d.bytes::float8, d.length, d.passage_count, d.created_at::float8,
    d.updated_at::float8
  from newest_revisions d`;

/** A user who is being erased has a row without a user_id: their documents are nobody's any more. */
const inScope = (user_id: string): string => `d.workspace_id = $workspace_id and (d.user_n is null
    or ${user_id} is not null and ($scope_user::text is null or ${user_id} = $scope_user))`;

const scopeOf = ({ workspace_id, user_id }: DocumentScope) => ({ workspace_id, scope_user: user_id });

export function createDocuments(database: Database): Omit<DocumentStore, "searchPassages"> {
  /** By revision: what is added to it goes in one after the other, as on one connection. */
  const adding = new Map<string, Promise<unknown>>();

  return {
    beginRevision: (workspaceId, { now_ms, ...revision }, upload) =>
      database.transaction(async (queries) => {
        const begun = (await queries.row<{ document_n: number; revision_n: number | null; created: boolean }>(
          `select document_n::float8, revision_n::float8, created
           from begin_revision($workspace_id, $revision::text::json, $now::int8)`,
          { workspace_id: workspaceId, revision: toJson(revision), now: Math.floor(now_ms / 1000) },
        ))!;
        const { document_n, revision_n, created } = begun;
        if (revision_n !== null) await keepUpload(queries, revision_n, upload);
        const document = await documentOf(queries, document_n);
        return { document: document!, unchanged: revision_n === null, created };
      }),

    revisionsToProcess: () =>
      database.rows<RevisionToProcess>(
        `select r.id as revision_id, d.id as document_id, d.name, r.media_type
         from document_revisions r join documents d on d.n = r.document_n where r.status = 'processing' order by r.n`,
      ),

    async upload(revisionId) {
      const pieces = await database.rows<{ bytes: Uint8Array }>(
        `select u.bytes from document_revisions r join uploads u on u.revision_n = r.n
         where r.id = $id and r.status = 'processing' and r.document_n is not null order by u.start`,
        { id: revisionId },
      );
      return pieces.length === 0 ? null : Buffer.concat(pieces.map(({ bytes }) => bytes));
    },

    async beginAttempt(revision_id) {
      const { attempt, stored } = (await database.row<{ attempt: number | null; stored: boolean }>(
        "select attempt, stored from begin_attempt($id)",
        { id: revision_id },
      ))!;
      if (attempt === null) return null;
      for (let more = stored; more; ) {
        more = (await database.row<{ more: boolean | null }>(
          "select clear_revision(revision_of($id, $attempt::int4)) as more",
          { id: revision_id, attempt },
        ))!.more!;
      }
      return { revision_id, attempt };
    },

    addToRevision({ revision_id, attempt }, parts, passages, progress) {
      const given = passages.map((passage) => ({
        ...passage,
        lexemes: passageLexemes(passage.heading, passage.text),
      }));
      const added = (adding.get(revision_id) ?? Promise.resolve()).then(async () => {
        const row = await database.row<{ added: boolean }>(
          `select add_to_revision($id, $attempt::int4, $parts::text::json, $passages::text::json, $progress::float8) as added`,
          { id: revision_id, attempt, parts: toJson(parts), passages: toJson(given), progress },
        );
        return row!.added;
      });
      const settled = added
        .catch(() => {})
        .finally(() => {
          if (adding.get(revision_id) === settled) adding.delete(revision_id);
        });
      adding.set(revision_id, settled);
      return added;
    },

    async finishRevision({ revision_id, attempt }, mediaType, length, nowMs) {
      const { n } = (await database.row<{ n: number | null }>(
        `select finish_revision($id, $attempt::int4, $media_type, $length::int4, $now::int8)::float8 as n`,
        { id: revision_id, attempt, media_type: mediaType, length, now: Math.floor(nowMs / 1000) },
      ))!;
      return n === null ? null : await documentOf(database, n);
    },

    async failRevision({ revision_id, attempt }, { code, message }, keep, nowMs) {
      await database.rows("select fail_revision($id, $attempt::int4, $code, $message, $keep, $now::int8)", {
        id: revision_id,
        attempt,
        code,
        message,
        keep,
        now: Math.floor(nowMs / 1000),
      });
    },

    clearWaste: () => clearWaste(database),

    async document(scope, id) {
      const row = await database.row<DocumentRow>(
        `${selectDocument} where d.id = $id and ${inScope("d.user_id")}`,
        { ...scopeOf(scope), id },
      );
      return row && toDocument(row);
    },

    async documents(scope, { collection, user_id, limit, after }) {
      const bindings: Record<string, Binding> = { ...scopeOf(scope), limit: limit + 1 };
      const where = [inScope("d.user_id")];
      if (collection !== null) where.push("d.collection = $collection");
      if (user_id !== null) where.push("d.user_id = $user_id");
      if (after !== null) where.push("(d.updated_at, d.id) < ($after_at::int8, $after_id)");
      const rows = await database.rows<DocumentRow>(
        `${selectDocument} where ${where.join(" and ")} order by d.updated_at desc, d.id desc limit $limit::int4`,
        {
          ...bindings,
          ...(collection === null ? {} : { collection }),
          ...(user_id === null ? {} : { user_id }),
          ...(after === null ? {} : { after_at: after.updated_at, after_id: after.id }),
        },
      );
      const documents = rows.slice(0, limit).map(toDocument);
      const last = documents.at(-1);
      const next: DocumentCursor | null =
        rows.length > limit && last ? { updated_at: last.updated_at, id: last.id } : null;
      return { documents, next };
    },

    documentText: (scope, id, from) =>
      database.row<TextPart>(
        `select p.start, p.text from documents d left join users u on u.n = d.user_n
           join document_parts p on p.revision_n = d.revision_n
         where d.id = $id and ${inScope("u.user_id")} and p.start >= $from::int4 order by p.start limit 1`,
        { ...scopeOf(scope), id, from },
      ),

    async deleteDocument(scope, id) {
      const gone = await database.rows(
        `delete from documents d using documents same left join users u on u.n = same.user_n
         where same.n = d.n and d.id = $id and ${inScope("u.user_id")}
           and (d.user_n is not null or $scope_user::text is null)
         returning d.n`,
        { ...scopeOf(scope), id },
      );
      return gone.length > 0;
    },
  };
}

/** Deletes some of what no document has any more; true where there is more. */
export async function clearWaste(queries: Queries): Promise<boolean> {
  return (await queries.row<{ more: boolean }>("select clear_waste() as more"))!.more;
}

async function documentOf(queries: Queries, n: number): Promise<DocumentRecord | null> {
  const row = await queries.row<DocumentRow>(`${selectDocument} where d.n = $n::int8`, { n });
  return row && toDocument(row);
}

/** One piece of an empty upload too: without any it is gone. */
async function keepUpload(queries: Queries, revision_n: number, upload: Uint8Array): Promise<void> {
  let start = 0;
  do {
    await queries.rows(
      "insert into uploads (revision_n, start, bytes) values ($revision_n::int8, $start::int4, $bytes)",
      { revision_n, start, bytes: upload.subarray(start, start + pieceBytes) },
    );
    start += pieceBytes;
  } while (start < upload.byteLength);
}
