/** What the user routes take and give. */
import { type Static, t } from "elysia";
import { messageRecord, userId } from "../chat/schema.ts";
import { conversationProperties } from "../conversations/schema.ts";
import { document } from "../documents/schema.ts";
import { exampleIds } from "../http/docs.ts";
import { pageEnd, pageQuery } from "../http/paging.ts";
import {
  id,
  idParam,
  integer,
  metadata,
  nullable,
  oneOf,
  strictObject,
  text,
  textOfForm,
  time,
} from "../http/strict.ts";
import { memoryCursor } from "./cursors.ts";
import { canonicalLanguage, canonicalTimeZone } from "./locale.ts";

export const userParams = strictObject({ user_id: userId() });

const displayName = () =>
  text({
    minLength: 1,
    maxLength: 200,
    pattern: "\\S",
    description: "What to call the user.",
    examples: ["Ada"],
  });

const language = () =>
  textOfForm(
    "language",
    "must be a language tag of BCP 47, such as de-CH",
    (tag) => canonicalLanguage(tag) !== null,
    { maxLength: 100, description: "What they speak: a tag of BCP 47.", examples: ["en-GB"] },
  );

const timezone = () =>
  textOfForm(
    "time-zone",
    "must be a time zone of the IANA database, such as Europe/Zurich",
    (name) => canonicalTimeZone(name) !== null,
    {
      maxLength: 100,
      description: "Where they are: a time zone of the IANA database. Dates in prompts are the user's.",
      examples: ["Europe/London"],
    },
  );

const instructions = () =>
  text({
    minLength: 1,
    maxLength: 4_000,
    pattern: "\\S",
    description: "How they want to be answered.",
    examples: ["Answer briefly, and without tables."],
  });

export const profilePatch = strictObject(
  {
    display_name: t.Optional(nullable(displayName())),
    language: t.Optional(nullable(language())),
    timezone: t.Optional(nullable(timezone())),
    instructions: t.Optional(nullable(instructions())),
    metadata: t.Optional(nullable(metadata())),
  },
  { title: "ProfilePatch" },
);
export type ProfilePatch = Static<typeof profilePatch>;

export const profile = strictObject(
  {
    object: t.Literal("profile"),
    user_id: t.String(),
    display_name: nullable(t.String(), { description: "What to call the user." }),
    language: nullable(t.String(), { description: "A language tag in its canonical form." }),
    timezone: nullable(t.String(), { description: "As the IANA database spells it." }),
    instructions: nullable(t.String(), { description: "How they want to be answered." }),
    metadata: metadata(),
    created_at: nullable(time(), { description: "Null for a user nobody has heard of." }),
    updated_at: nullable(time()),
  },
  { title: "Profile" },
);
export type ProfileView = Static<typeof profile>;

const memoryText = () =>
  text({
    minLength: 1,
    maxLength: 500,
    pattern: "\\S",
    description: "A durable fact about the user, in a sentence.",
    examples: ["Her daughter Lena plays the cello."],
  });

const kind = (words: string) => oneOf(["fact", "preference", "instruction", "event"], { description: words });

export const memoryRequest = strictObject(
  {
    text: memoryText(),
    kind: t.Optional(nullable(kind("`fact` if left out."))),
    slot: t.Optional(
      nullable(
        text({
          minLength: 1,
          maxLength: 64,
          pattern: "\\S",
          description:
            "What it is the one value of, such as `home`: it supersedes a memory of the same slot that holds now.",
          examples: ["home"],
        }),
      ),
    ),
  },
  { title: "MemoryRequest" },
);

export const memoryPatch = strictObject(
  { text: t.Optional(memoryText()), kind: t.Optional(kind("What it is.")) },
  { title: "MemoryPatch" },
);

export const memory = strictObject(
  {
    id: id("memory"),
    object: t.Literal("memory"),
    user_id: t.String(),
    text: t.String({ description: "A durable fact about the user." }),
    kind: kind("What it is."),
    slot: nullable(t.String(), { description: "What it is the one value of." }),
    tokens: integer({ minimum: 0, description: "What it takes in a prompt, by Parley's own count." }),
    source_message_id: nullable(id("message"), {
      description:
        "The user's message that it was drawn from; null where it was given, or where that was deleted.",
    }),
    superseded_by: nullable(id("memory"), {
      description: "The memory that took its place; null while it holds.",
    }),
    uses: integer({ minimum: 0, description: "How often it was part of a prompt." }),
    used_at: nullable(time(), { description: "When it was that last." }),
    created_at: time(),
    updated_at: time(),
  },
  { title: "Memory" },
);
export type Memory = Static<typeof memory>;

export const memoryParams = strictObject({
  user_id: userId(),
  id: idParam({ description: "The memory.", examples: [exampleIds.memory] }),
});

export const memoriesQuery = strictObject({
  ...pageQuery(memoryCursor),
});

export const memoryPage = strictObject(
  {
    memories: t.Array(memory, { description: "Newest first." }),
    ...pageEnd(),
  },
  { title: "MemoryPage" },
);

export const deletedMemory = strictObject(
  {
    status: t.Literal("deleted"),
    id: id("memory"),
    object: t.Literal("memory.deleted"),
    deleted: t.Literal(true),
  },
  { title: "DeletedMemory" },
);

const count = () => integer({ minimum: 0 });

export const deletedUser = strictObject(
  {
    status: t.Literal("deleted"),
    user_id: t.String(),
    object: t.Literal("user.deleted"),
    deleted: t.Literal(true),
    erased: strictObject(
      {
        conversations: count(),
        messages: count(),
        turns: count(),
        memories: count(),
        documents: count(),
        idempotency_keys: count(),
      },
      { title: "Erased", description: "How much this request erased." },
    ),
  },
  { title: "DeletedUser" },
);

const summary = strictObject(
  {
    text: t.String({ description: "The digest of the conversation's beginning; empty where there is none." }),
    through_seq: integer({ minimum: 0, description: "The last message that it covers." }),
  },
  { title: "Summary" },
);

const exportedUserConversation = strictObject(
  {
    ...conversationProperties,
    summary,
    messages: t.Array(messageRecord, { description: "All, oldest first." }),
  },
  { title: "ExportedUserConversation" },
);

const exportedDocument = strictObject(
  {
    ...document.properties,
    text: t.String({ description: "All of it; empty where no version is ready." }),
  },
  { title: "ExportedDocument" },
);

/** Never built as one value: `export.ts` writes it page by page. */
export const exportedUser = strictObject(
  {
    object: t.Literal("user.export"),
    user_id: t.String(),
    exported_at: time(),
    profile,
    memories: t.Array(memory, { description: "All, newest first, those too that don't hold any more." }),
    conversations: t.Array(exportedUserConversation, { description: "All, in the order they were made." }),
    documents: t.Array(exportedDocument, { description: "Those that are the user's alone." }),
  },
  { title: "ExportedUser" },
);
export type ExportedUser = Static<typeof exportedUser>;
