/** The rows that stand for whose documents are: see `scopeCode`. */
import type { Database, SQLQueryBindings } from "bun:sqlite";

export function createDocumentScopes(db: Database) {
  const statement = (sql: string) => db.query<{ n: number }, SQLQueryBindings>(sql);
  const find = statement(`select n from document_scopes where workspace_id = $workspace_id
    and coalesce(user_n, 0) = coalesce($user_n, 0)`);
  const insert = statement(
    "insert into document_scopes (workspace_id, user_n) values ($workspace_id, $user_n) returning n",
  );

  /** The row of an owner's documents, made where there is none. @param user_n null for the whole workspace */
  return function documentScopeOf(workspace_id: string, user_n: number | null): number {
    const whose = { workspace_id, user_n };
    return (find.get(whose) ?? insert.get(whose)!).n;
  };
}
