/** Documents: add, list, read, search, delete. */

import type { TSchema } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import type { Static } from "elysia";
import type { OpenViews } from "../auth/open-views.ts";
import { type Authenticate, choosing, type Principal, requireWholeWorkspace } from "../auth/principal.ts";
import { AppError } from "../errors.ts";
import { toFaults } from "../http/faults.ts";
import { invalidRequest } from "../http/problem.ts";
import { requestIdFrom } from "../http/request-id.ts";
import type { Requests } from "../http/requests.ts";
import { authenticatedRoutes } from "../http/routes.ts";
import type { Upload } from "../http/upload.ts";
import type { DocumentCursor, DocumentRecord, DocumentScope } from "../storage/document-store.ts";
import type { Store } from "../storage/store.ts";
import type { Questions } from "../vectors/questions.ts";
import { documentCursor } from "./cursors.ts";
import { docs } from "./docs.ts";
import type { DocumentLibrary, NewDocument } from "./library.ts";
import { documentName } from "./name.ts";
import {
  defaultCollection,
  deletedDocument,
  document,
  documentPage,
  documentParams,
  documentRequest,
  documentsQuery,
  searchRequest,
  searchResults,
  uploadFields,
} from "./schema.ts";
import { textOf, toDocument } from "./views.ts";

const pageSize = 20;
const resultsMax = 10;
const encoder = new TextEncoder();

export interface DocumentServices {
  readonly store: Store;
  readonly library: DocumentLibrary;
  /** Null where search is by words alone. */
  readonly questions: Questions | null;
  readonly authenticate: Authenticate;
  readonly views: OpenViews;
  readonly requests: Requests;
}

const uploadPath = "/documents";

/** Whether the body of a route is an upload, whose size and form differ from those of all others. */
export const takesUpload = (route: string): boolean => route === uploadPath || route === `/v1${uploadPath}`;

export function documentRoutes(
  prefix: string,
  { store, library, questions, authenticate, views, requests }: DocumentServices,
) {
  const find = async (scope: DocumentScope, id: string): Promise<DocumentRecord> =>
    (await store.document(scope, id)) ?? unknownDocument();

  return authenticatedRoutes(prefix, authenticate)
    .post(
      uploadPath,
      async ({ principal, body, set }) => {
        const added = await library.add(
          principal.scope.workspace_id,
          toNewDocument(principal, body as Upload),
        );
        set.status = !added.settled ? 202 : added.created ? 201 : 200;
        set.headers.location = `/v1/documents/${added.document.id}`;
        return toDocument(added.document);
      },
      { response: { 200: document, 201: document, 202: document }, detail: docs.add },
    )
    .get(
      "/documents",
      async ({ principal, query }) => {
        const { next, documents } = await store.documents(choosing(principal, query.user_id), {
          collection: query.collection ?? null,
          user_id: query.user_id ?? null,
          limit: Number(query.limit ?? pageSize),
          after: query.after === undefined ? null : afterCursor(query.after),
        });
        return {
          documents: documents.map(toDocument),
          has_more: next !== null,
          next_after: next && documentCursor.write([next.updated_at, next.id]),
        };
      },
      { query: documentsQuery, response: { 200: documentPage }, detail: docs.list },
    )
    .post(
      "/documents/search",
      async ({ principal, body }) => {
        const scope = choosing(principal, body.user_id);
        const found = await store.searchPassages({
          workspace_id: scope.workspace_id,
          user_id: scope.user_id ?? body.user_id ?? null,
          q: body.query,
          vector: (await questions?.vectorOf(body.query)) ?? null,
          collections: body.collections ?? null,
          filter: body.filter ?? null,
          limit: body.limit ?? resultsMax,
        });
        return {
          results: found.map(({ tokens: _, coverage: __, ...result }) => result),
        };
      },
      { body: searchRequest, response: { 200: searchResults }, detail: docs.search },
    )
    .get(
      "/documents/:id",
      async ({ principal, params }) => toDocument(await find(principal.scope, params.id)),
      {
        params: documentParams,
        response: { 200: document },
        detail: docs.read,
      },
    )
    .get(
      "/documents/:id/text",
      async ({ principal, params, request, set }) => {
        const { id } = await find(principal.scope, params.id);
        const viewed = views.file(principal, request, textOf(store, principal.scope, id));
        return new Response(requests.streamed(request, viewed) as unknown as ReadableStream, {
          headers: { "content-type": "text/plain; charset=utf-8", "x-request-id": requestIdFrom(set) },
        });
      },
      { params: documentParams, detail: docs.text },
    )
    .delete(
      "/documents/:id",
      async ({ principal, params }) => {
        if (!(await library.delete(principal.scope, params.id))) {
          await find(principal.scope, params.id);
          requireWholeWorkspace(principal, notYours);
          unknownDocument();
        }
        return {
          status: "deleted" as const,
          id: params.id,
          object: "document.deleted" as const,
          deleted: true as const,
        };
      },
      { params: documentParams, response: { 200: deletedDocument }, detail: docs.remove },
    );
}

function toNewDocument(principal: Principal, { fields, file }: Upload): NewDocument {
  if (file === null) {
    const { text, ...given } = validated(documentRequest, fields);
    const media_type = given.media_type ?? (isNamedByType(given.name) ? null : "text/plain");
    return { ...toDescribed(principal, given, given.name), bytes: encoder.encode(text), media_type };
  }
  const given = validated(uploadFields, fields);
  const media_type = given.media_type ?? file.media_type;
  return { ...toDescribed(principal, given, given.name ?? file.name), bytes: file.bytes, media_type };
}

function toDescribed(
  principal: Principal,
  given: Pick<Static<typeof uploadFields>, "collection" | "user_id" | "metadata">,
  name: string,
): Omit<NewDocument, "bytes" | "media_type"> {
  const owner = given.user_id ?? null;
  choosing(principal, owner);
  if (owner === null) requireWholeWorkspace(principal, notYours);
  return {
    name: documentName(name),
    collection: given.collection ?? defaultCollection,
    owner,
    metadata: given.metadata ?? {},
  };
}

/** Whether a name has an extension, which may tell what the text is. */
const isNamedByType = (name: string): boolean => /\.\w{1,8}$/.test(name);

/** @throws invalid_request with every fault */
function validated<Schema extends TSchema>(schema: Schema, value: unknown): Static<Schema> {
  if (!Value.Check(schema, value)) throw invalidRequest(toFaults("body", Value.Errors(schema, value)));
  return value as Static<Schema>;
}

const notYours =
  "A document without user_id is everybody's in the workspace: only a service or admin key adds and deletes it.";

const unknownDocument = (): never => {
  throw new AppError("not_found", { detail: "There is no such document." });
};

function afterCursor(cursor: string): DocumentCursor | null {
  const position = documentCursor.read(cursor);
  return position && { updated_at: position[0], id: position[1] };
}
