/** What /docs says about the document routes. */
import { common, exampleIds, json, naming, operation, taking } from "../http/docs.ts";
import { documentRequest, uploadRequest } from "./schema.ts";

const tag = "Documents";

const quote = "On Linux, run `./install.sh` as root.";

const document = {
  id: exampleIds.document,
  object: "document",
  name: "handbook.md",
  collection: "handbooks",
  user_id: null,
  status: "ready",
  progress: 1,
  error: null,
  version: 1,
  media_type: "text/markdown",
  metadata: { team: "support" },
  bytes: 2_048,
  length: 2_040,
  passage_count: 3,
  created_at: 1_785_000_000,
  updated_at: 1_785_000_000,
};

const processing = { ...document, status: "processing", progress: 0.4, length: 0, passage_count: 0 };

export const docs = {
  add: operation({
    tag,
    id: "addDocument",
    summary: "Add a document",
    description:
      "As JSON with its text (up to 4 MiB), or as a multipart upload with a `file`. Text, Markdown, HTML, CSV, JSON, PDF and Word (.docx) are read. The same content under the same name changes nothing; other content is a new version, which takes the place of the one before in one step. What takes longer is processed in the background (202): read its `status` and `progress` at `Location`.",
    bodies: {
      "application/json": {
        schema: documentRequest,
        examples: {
          text: {
            summary: "A text",
            value: {
              name: "handbook.md",
              text: `# Install\n\n## Linux\n\n${quote}`,
              collection: "handbooks",
            },
          },
        },
      },
      "multipart/form-data": { schema: uploadRequest },
    },
    answers: {
      200: json("A new version of a document, or what was there already.", document, ["Location"]),
      201: json("A new document.", document, ["Location"]),
      202: json("It is being processed.", processing, ["Location"]),
    },
    problems: [...naming, ...taking, "document_unreadable", "shutting_down"],
  }),
  list: operation({
    tag,
    id: "listDocuments",
    summary: "List documents",
    description: "Last changed first, in pages. Without a `user_id`, those of everybody and of every user.",
    answers: {
      200: json("A page of documents.", { documents: [document], has_more: false, next_after: null }),
    },
    problems: common,
  }),
  search: operation({
    tag,
    id: "searchDocuments",
    summary: "Search documents",
    description:
      "Passages that bear on a question, best first. A turn draws on the same search. Whatever stands in the query is words.",
    body: {
      question: {
        summary: "A question to one collection",
        value: { query: "How do I install it on Linux?", limit: 3, collections: ["handbooks"] },
      },
    },
    answers: {
      200: json("What was found.", {
        results: [
          {
            document_id: exampleIds.document,
            name: "handbook.md",
            heading: "Install > Linux",
            quote,
            start: 21,
            end: 21 + quote.length,
            score: 3.21,
          },
        ],
      }),
    },
    problems: [...common, ...taking],
  }),
  read: operation({
    tag,
    id: "getDocument",
    summary: "Read a document's state",
    description: "What it is, and how far its newest version is processed.",
    answers: { 200: json("The document.", document) },
    problems: naming,
  }),
  text: operation({
    tag,
    id: "getDocumentText",
    summary: "Read a document's text",
    description: "The text that citations' `start` and `end` point into, whole; empty until it is ready.",
    answers: {
      200: {
        description: "The text.",
        content: {
          "text/plain": { schema: { type: "string" }, example: `# Install\n\n## Linux\n\n${quote}` },
        },
      },
    },
    problems: naming,
  }),
  remove: operation({
    tag,
    id: "deleteDocument",
    summary: "Delete a document",
    description: "With all its versions: nothing finds it any more, and its text is overwritten.",
    answers: {
      200: json("It is gone.", {
        status: "deleted",
        id: exampleIds.document,
        object: "document.deleted",
        deleted: true,
      }),
    },
    problems: naming,
  }),
};
