/** What /docs says about the user routes. */
import { common, exampleIds, json, naming, operation, taking } from "../http/docs.ts";
import { exportedUser } from "./schema.ts";

const tag = "Users";

const profile = {
  object: "profile",
  user_id: "ada",
  display_name: "Ada",
  language: "en-GB",
  timezone: "Europe/London",
  instructions: "Answer briefly, and without tables.",
  metadata: { plan: "team" },
  created_at: 1_785_000_000,
  updated_at: 1_785_000_600,
};

const memory = {
  id: exampleIds.memory,
  object: "memory",
  user_id: "ada",
  text: "Her daughter Lena plays the cello.",
  kind: "fact",
  slot: null,
  tokens: 8,
  source_message_id: exampleIds.userMessage,
  superseded_by: null,
  uses: 3,
  used_at: 1_785_000_500,
  created_at: 1_785_000_010,
  updated_at: 1_785_000_010,
};

const given = { ...memory, source_message_id: null, uses: 0, used_at: null };

export const docs = {
  profile: operation({
    tag,
    id: "getProfile",
    summary: "Read a user's profile",
    description:
      "A profile is a setting: of a user nobody has heard of it is empty, and not an error. Every prompt of the user's turns holds it.",
    answers: { 200: json("The profile.", profile) },
    problems: common,
  }),
  updateProfile: operation({
    tag,
    id: "updateProfile",
    summary: "Change a user's profile",
    description:
      "What is left out stays, null clears. `metadata` is replaced as a whole, and is no part of prompts. Language and time zone are kept in their canonical form.",
    body: {
      some: {
        summary: "Name, language and time zone",
        value: { display_name: "Ada", language: "en-GB", timezone: "Europe/London" },
      },
      clear: { summary: "No instructions any more", value: { instructions: null } },
    },
    answers: { 200: json("The profile as it is now.", profile) },
    problems: [...common, ...taking],
  }),
  memories: operation({
    tag,
    id: "listMemories",
    summary: "List what is remembered about a user",
    description:
      "The newest first, those that hold: what was superseded is in the export. A user nobody has heard of has none.",
    answers: { 200: json("A page.", { memories: [memory], has_more: true, next_after: "WyJtZW1fIl0" }) },
    problems: common,
  }),
  createMemory: operation({
    tag,
    id: "createMemory",
    summary: "Have something remembered about a user",
    description:
      "Where a user has as many memories as are kept (`PARLEY_MEMORIES_MAX`), the least useful other one goes.",
    body: {
      fact: { summary: "A fact", value: { text: "Her daughter Lena plays the cello." } },
      slot: {
        summary: "In place of what is remembered of the same",
        value: { text: "She lives in Lisbon.", slot: "home" },
      },
      preference: {
        summary: "A preference",
        value: { text: "She prefers trains to planes.", kind: "preference" },
      },
    },
    answers: { 201: json("The new memory.", given, ["Location"]) },
    problems: [...common, ...taking],
  }),
  memory: operation({
    tag,
    id: "getMemory",
    summary: "Read a memory",
    description: "One that was superseded too, as long as it is kept.",
    answers: { 200: json("The memory.", memory) },
    problems: naming,
  }),
  updateMemory: operation({
    tag,
    id: "updateMemory",
    summary: "Correct a memory",
    description: "What is left out stays.",
    body: {
      text: { summary: "Another text", value: { text: "Her daughter Lena plays the cello and the piano." } },
      kind: { summary: "Another kind", value: { kind: "preference" } },
    },
    answers: { 200: json("The memory as it is now.", memory) },
    problems: [...naming, ...taking],
  }),
  deleteMemory: operation({
    tag,
    id: "deleteMemory",
    summary: "Forget a memory",
    description: "For good. The message that it was drawn from stays, and can still be recalled.",
    answers: {
      200: json("It is gone.", {
        status: "deleted",
        id: exampleIds.memory,
        object: "memory.deleted",
        deleted: true,
      }),
    },
    problems: naming,
  }),
  export: operation({
    tag,
    id: "exportUser",
    summary: "Export all that is kept about a user",
    description:
      "One JSON document: profile, memories (superseded ones too), conversations with all their messages and summaries, and the documents that are the user's alone, with their text. Of a user nobody has heard of it is empty, which is the answer to what is kept about them. What happens while it is written may be in it or not.",
    answers: {
      200: {
        description: "The document.",
        headers: ["Content-Disposition"],
        content: {
          "application/json": {
            schema: exportedUser,
            example: {
              object: "user.export",
              user_id: "ada",
              exported_at: 1_785_000_900,
              profile,
              memories: [memory],
              conversations: [],
              documents: [],
            },
          },
        },
      },
    },
    problems: common,
  }),
  deleteUser: operation({
    tag,
    id: "deleteUser",
    summary: "Erase a user",
    description:
      "All that is kept about them, for good: conversations, messages, turns, receipts, summaries, memories, the profile, the documents that are theirs alone, index entries and idempotency keys. Running turns are stopped first. When it answers, no file of the data directory holds any text of theirs any more, snapshots of earlier versions included, which are removed; in PostgreSQL no row does, while its files, WAL and backups keep what was deleted for as long as it is set up to. That takes as long as going through the database does; others are served meanwhile.\n\nFrom the request on they are a user nobody has heard of: what they do meanwhile or later is a new user's, and draws on nothing of before. It may be repeated, and one that was cut off is finished at the next start, or by another instance; each answer counts what its own request erased.",
    answers: {
      200: json("Nothing is left.", {
        status: "deleted",
        user_id: "ada",
        object: "user.deleted",
        deleted: true,
        erased: {
          conversations: 2,
          messages: 18,
          turns: 9,
          memories: 5,
          documents: 1,
          idempotency_keys: 9,
        },
      }),
    },
    problems: common,
  }),
};
