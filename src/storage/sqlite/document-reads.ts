/** Queries about documents. They run in the server's thread; searches are in passages.ts. */
import type { Database, SQLQueryBindings } from "bun:sqlite";
import type { ErrorCode } from "../../errors.ts";
import type {
  DocumentCursor,
  DocumentPage,
  DocumentQuery,
  DocumentRecord,
  DocumentScope,
  DocumentStatus,
  RevisionToProcess,
  TextPart,
} from "../document-store.ts";

interface DocumentRow {
  n: number;
  id: string;
  collection: string;
  name: string;
  user_id: string | null;
  status: DocumentStatus;
  progress: number;
  error_code: ErrorCode | null;
  error_message: string | null;
  version: number;
  media_type: string;
  metadata: string;
  bytes: number;
  length: number;
  passage_count: number;
  created_at: number;
  updated_at: number;
}

const toDocument = ({ n: _, error_code, error_message, metadata, ...row }: DocumentRow): DocumentRecord => ({
  ...row,
  metadata: JSON.parse(metadata),
  error: error_code === null ? null : { code: error_code, message: error_message ?? "" },
});

/** A document with its newest revision. */
const selectDocument = `select d.n, d.id, d.collection, d.name, u.user_id, r.status, r.progress, r.error_code,
    r.error_message, r.version, r.media_type, r.metadata, r.bytes, r.length, r.passage_count, d.created_at, d.updated_at
  from documents d left join users u on u.n = d.user_n
    join document_revisions r on r.n = (select max(n) from document_revisions where document_n = d.n)`;

/** A user who is being erased has a row without a user_id: their documents are nobody's any more. */
const inScope = `d.workspace_id = $workspace_id and (d.user_n is null
    or u.user_id is not null and ($scope_user is null or u.user_id = $scope_user))`;

const scopeOf = ({ workspace_id, user_id }: DocumentScope) => ({ workspace_id, scope_user: user_id });

export function createDocumentReads(db: Database) {
  const byId = db.query<DocumentRow, SQLQueryBindings>(`${selectDocument} where d.id = $id and ${inScope}`);
  const byRow = db.query<DocumentRow, SQLQueryBindings>(`${selectDocument} where d.n = $n`);
  const page = db.query<DocumentRow, SQLQueryBindings>(
    `${selectDocument} where ${inScope} and ($collection is null or d.collection = $collection)
       and ($user_id is null or u.user_id = $user_id)
       and ($after_id is null or (d.updated_at, d.id) < ($after_at, $after_id))
     order by d.updated_at desc, d.id desc limit $limit`,
  );
  const toProcess = db.query<RevisionToProcess, []>(
    `select r.id as revision_id, d.id as document_id, d.name, r.media_type
     from document_revisions r join documents d on d.n = r.document_n where r.status = 'processing' order by r.n`,
  );
  const textFrom = db.query<TextPart, SQLQueryBindings>(
    `select p.start, p.text from documents d left join users u on u.n = d.user_n
       join document_parts p on p.revision_n = d.revision_n
     where d.id = $id and ${inScope} and p.start >= $from order by p.start limit 1`,
  );
  const anyReady = db.query<{ n: number }, SQLQueryBindings>(
    "select n from documents where workspace_id = $workspace_id and revision_n is not null limit 1",
  );

  return {
    document(scope: DocumentScope, id: string): DocumentRecord | null {
      const row = byId.get({ ...scopeOf(scope), id });
      return row && toDocument(row);
    },

    /** The document of a row, for the writer. */
    documentOf: (n: number): DocumentRecord => toDocument(byRow.get({ n })!),

    documents(scope: DocumentScope, { collection, user_id, limit, after }: DocumentQuery): DocumentPage {
      const rows = page.all({
        ...scopeOf(scope),
        collection,
        user_id,
        after_at: after?.updated_at ?? null,
        after_id: after?.id ?? null,
        limit: limit + 1,
      });
      const documents = rows.slice(0, limit).map(toDocument);
      const last = documents.at(-1);
      const next: DocumentCursor | null =
        rows.length > limit && last ? { updated_at: last.updated_at, id: last.id } : null;
      return { documents, next };
    },

    documentText: (scope: DocumentScope, id: string, from: number): TextPart | null =>
      textFrom.get({ ...scopeOf(scope), id, from }),

    revisionsToProcess: (): RevisionToProcess[] => toProcess.all(),

    hasPassages: (workspace_id: string): boolean => anyReady.get({ workspace_id }) !== null,
  };
}
