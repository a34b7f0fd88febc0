/** What all adapters ask of the records of an archive, beside the ids that they find: which may follow which. */
import type {
  ArchivedDocument,
  ArchivedPassages,
  ArchivedText,
  ArchivedTurn,
  ArchiveRecordType,
  Kept,
} from "./archive-store.ts";

/** Passages in one record. */
export const passagesPerRecord = 96;

/** What has ids, in tables with rows in the order in which they came. */
export type Table = "users" | "conversations" | "memories" | "documents";

export const refused = (why: string): Kept => ({ refused: why });
export const unknownUser = refused("its user is neither in the file before it nor in the database");
export const unknownWorkspace = refused("its workspace is neither in the file before it nor in the database");
export const twice = refused("it was in the file before");
export const idTwice = refused("its id was in the file before");
export const otherTurn = refused("there is another turn of its id");
export const messageTwice = refused("the id of a message was in the file before");
export const otherDocument = refused("there is another document of its name");
export const otherRevision = refused("there is another revision of its id");

/** What a record finds of its id, by the last row before the import: null where there is nothing, else what to answer. */
export function foundAs(n: number | null | undefined, lastBefore: number): Kept | null {
  if (n === null || n === undefined) return null;
  return n > lastBefore ? idTwice : "known";
}

/** Records that belong to the conversation or document before them. */
export const following: ReadonlySet<ArchiveRecordType> = new Set([
  "turn",
  "document_text",
  "document_passages",
]);

interface Group {
  id: string;
  /** False where it is there already: what belongs to it is passed over. */
  isNew: boolean;
}

/** A conversation whose turns follow. */
export interface ConversationGroup extends Group {
  n: number;
  workspace_id: string;
  user_n: number;
  messages: number;
  tokens: number;
  /** The turn that runs; it is the last one. */
  running: string | null;
  /** Messages that the summary covers. */
  covered: number;
}

/** A document whose text and passages follow. */
export interface DocumentGroup extends Group {
  revision_n: number;
  isReady: boolean;
  length: number;
  passages: number;
}

/** What to answer to a turn before anything is looked up; null where it may be kept. */
export function answerToTurn(group: ConversationGroup | null, turn: ArchivedTurn): Kept | null {
  if (group?.id !== turn.conversation_id) return refused("it doesn't follow its conversation");
  if (!group.isNew) return "known";
  if (group.running !== null) return refused("the turn before it is still running");
  if ((turn.status === "running") !== (turn.ended_at === null)) {
    return refused("a turn has an ended_at if, and only if, it has ended");
  }
  return null;
}

/** Why a conversation can't end like this, or null. */
export const faultOfEnd = ({ id, covered, messages }: ConversationGroup): string | null =>
  covered > messages ? `the summary of ${id} covers more messages than there are` : null;

/** The group of a document that is there already. */
export const knownDocument = ({ id }: ArchivedDocument): DocumentGroup => ({
  id,
  isNew: false,
  revision_n: 0,
  isReady: true,
  length: 0,
  passages: 0,
});

export function answerToText(group: DocumentGroup | null, { document_id, start }: ArchivedText): Kept | null {
  if (group?.id !== document_id) return refused("it doesn't follow its document");
  if (!group.isNew) return "known";
  if (!group.isReady) return refused("a document that has failed has no text");
  if (start !== group.length || group.passages > 0) {
    return refused("it doesn't begin where the text before it ends");
  }
  return null;
}

export function answerToPassages(
  group: DocumentGroup | null,
  { document_id, passages }: ArchivedPassages,
): Kept | null {
  if (group?.id !== document_id) return refused("they don't follow their document");
  if (!group.isNew) return "known";
  const { length } = group;
  const outside = passages.some(({ start, end }) => start >= end || end > length);
  return outside ? refused("a passage lies outside of the document's text") : null;
}
