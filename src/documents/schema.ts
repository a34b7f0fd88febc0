/** What the document routes take and give. */
import { type Static, t } from "elysia";
import { userId } from "../chat/schema.ts";
import { errorCodes } from "../errors.ts";
import { exampleIds } from "../http/docs.ts";
import { pageEnd, pageQuery } from "../http/paging.ts";
import { id, idParam, integer, metadata, nullable, strictObject, text, time } from "../http/strict.ts";
import { documentCursor } from "./cursors.ts";

export const defaultCollection = "default";

const name = (words: string) =>
  text({
    minLength: 1,
    maxLength: 1_000,
    pattern: "\\S",
    description: `${words} Directories before it are left out. It is what answers cite.`,
    examples: ["handbook.md"],
  });

const collection = () =>
  text({
    minLength: 1,
    maxLength: 200,
    pattern: "\\S",
    description: `What it is kept with, to be searched together; \`${defaultCollection}\` if left out.`,
    examples: ["handbooks"],
  });

const mediaType = () =>
  text({
    minLength: 1,
    maxLength: 200,
    description:
      "text/plain, text/markdown, text/html, text/csv, application/json, application/pdf or Word's .docx; if left out, the name and the content tell.",
    examples: ["text/markdown"],
  });

const owner = () =>
  t.Optional(
    nullable(userId(), {
      description:
        "Whose it is alone: only their turns draw on it. Left out, it is everybody's in the workspace.",
    }),
  );

const common = {
  media_type: t.Optional(nullable(mediaType())),
  collection: t.Optional(nullable(collection())),
  user_id: owner(),
  metadata: t.Optional(nullable(metadata())),
};

/** A document as JSON. */
export const documentRequest = strictObject(
  {
    name: name("What the document is called."),
    text: text({ minLength: 1, description: "Its content." }),
    ...common,
  },
  { title: "DocumentRequest" },
);

/** The fields of an upload beside its file; `metadata` is JSON. */
export const uploadFields = strictObject({
  name: t.Optional(name("In place of the file's own name.")),
  ...common,
});

/** An upload, for the documentation alone. */
export const uploadRequest = strictObject(
  {
    file: t.String({ contentMediaType: "application/octet-stream", description: "The document." }),
    name: t.Optional(name("In place of the file's own name.")),
    ...common,
  },
  { title: "DocumentUpload" },
);

export const document = strictObject(
  {
    id: id("document"),
    object: t.Literal("document"),
    name: t.String({ description: "Unique in its collection, for its owner." }),
    collection: t.String(),
    user_id: nullable(t.String(), { description: "Whose it is alone; null where it is everybody's." }),
    status: t.UnionEnum(["processing", "ready", "failed"], {
      description:
        "How its newest version stands. While that is processed, and where it has failed, the version before it stays in use.",
    }),
    progress: t.Number({ minimum: 0, maximum: 1, description: "How much of it is processed." }),
    error: nullable(
      strictObject({
        code: t.UnionEnum(errorCodes as [string, ...string[]]),
        message: t.String({ description: "For people." }),
      }),
      { description: "Why its newest version failed." },
    ),
    version: integer({ minimum: 1, description: "Counts the versions of its content." }),
    media_type: t.String({ description: "What it was read as." }),
    metadata: metadata(),
    bytes: integer({ minimum: 0, description: "Of the upload." }),
    length: integer({ minimum: 0, description: "Of its text, in UTF-16 code units." }),
    passage_count: integer({ minimum: 0, description: "The pieces that are searched and cited." }),
    created_at: time(),
    updated_at: time(),
  },
  { title: "Document" },
);
export type DocumentView = Static<typeof document>;

export const documentParams = strictObject({
  id: idParam({ description: "The document.", examples: [exampleIds.document] }),
});

export const documentsQuery = strictObject({
  collection: t.Optional(text({ maxLength: 200, description: "Only those of this collection." })),
  user_id: t.Optional(userId()),
  ...pageQuery(documentCursor),
});

export const documentPage = strictObject(
  {
    documents: t.Array(document, { description: "Last changed first." }),
    ...pageEnd(),
  },
  { title: "DocumentPage" },
);

export const deletedDocument = strictObject(
  {
    status: t.Literal("deleted"),
    id: id("document"),
    object: t.Literal("document.deleted"),
    deleted: t.Literal(true),
  },
  { title: "DeletedDocument" },
);

export const searchRequest = strictObject(
  {
    query: text({
      minLength: 1,
      maxLength: 4_000,
      pattern: "\\S",
      description: "A question, or words to look for. There is no query syntax.",
      examples: ["How do I install it on Linux?"],
    }),
    limit: t.Optional(nullable(integer({ minimum: 1, maximum: 50, description: "10 if left out." }))),
    collections: t.Optional(
      nullable(t.Array(text({ minLength: 1, maxLength: 200 }), { maxItems: 64 }), {
        description: "Only these collections; left out, all are searched.",
      }),
    ),
    user_id: t.Optional(
      nullable(userId(), { description: "Whose own documents are searched beside everybody's." }),
    ),
    filter: t.Optional(nullable(metadata(), { description: "Pairs that a document's metadata must hold." })),
  },
  { title: "SearchRequest" },
);

export const searchResults = strictObject(
  {
    results: t.Array(
      strictObject(
        {
          document_id: id("document"),
          name: t.String(),
          heading: t.String({ description: "The headings above the passage, from the outermost." }),
          quote: t.String({ description: "Exactly the document's text from start to end." }),
          start: integer({ minimum: 0, description: "In UTF-16 code units." }),
          end: integer({ minimum: 0, description: "In UTF-16 code units, exclusive." }),
          score: t.Number({ description: "How well the passage fits; comparable within one answer only." }),
        },
        { title: "SearchResult" },
      ),
      { description: "Best first." },
    ),
  },
  { title: "SearchResults" },
);
