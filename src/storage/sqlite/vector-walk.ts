/** The walk through everything stored, for texts that have no vector of a space: see the port. */
import type { Database, SQLQueryBindings } from "bun:sqlite";
import type { SpaceKey } from "../quantize.ts";
import type { TextToEmbed, WalkPosition } from "../vector-store.ts";
import { createTextsToEmbed } from "./texts-to-embed.ts";

/** Conversations, users or revisions of one step: a step must not hold up the other reads of its worker. */
const groupsPerStep = 50;

const order: readonly TextToEmbed["kind"][] = ["memory", "message", "passage"];

export function createVectorWalk(db: Database) {
  const textToEmbed = createTextsToEmbed(db);
  const statement = (sql: string) => db.query<{ n: number }, SQLQueryBindings>(sql);
  const spaceOf = statement("select n from vector_spaces where model = $model and dimensions = $dimensions");
  const page = (from: string) => statement(`${from} order by n limit ${groupsPerStep}`);
  // Indexes hold all that these go through.
  const walks = {
    memory: {
      groups: page("select n from users where n > $after"),
      missing: statement(`select m.n from memories m where m.user_n = $group and not exists (
        select 1 from memory_vectors v where v.n = m.n and v.space_n = $space_n)`),
    },
    message: {
      groups: page("select n from conversations where n > $after"),
      missing: statement(`select m.n from messages m join conversations c on c.n = m.conversation_n
        where m.conversation_n = $group and not exists (
          select 1 from message_vectors v indexed by message_codes
          where v.user_n = c.user_n and v.space_n = $space_n and v.n = m.n)`),
    },
    passage: {
      groups: page(
        "select n from document_revisions where n > $after and document_n is not null and status <> 'failed'",
      ),
      missing: statement(`select p.n from passages p where p.revision_n = $group and not exists (
        select 1 from passage_vectors v indexed by passage_codes
        where v.revision_n = $group and v.space_n = $space_n and v.n = p.n)`),
    },
  };

  return function textsWithoutVector(
    { model, dimensions }: SpaceKey,
    from: WalkPosition | null,
    limit: number,
  ): { texts: TextToEmbed[]; next: WalkPosition | null } {
    const space_n = spaceOf.get({ model, dimensions })?.n ?? 0;
    const { kind, after } = from ?? { kind: order[0]!, after: 0 };
    const texts: TextToEmbed[] = [];
    const groups = walks[kind].groups.all({ after });
    for (const { n: group } of groups) {
      for (const { n } of walks[kind].missing.iterate({ group, space_n })) {
        const stored = textToEmbed(kind, n);
        if (stored === null) continue;
        const { owner_n: _, ...text } = stored;
        texts.push(text);
        // What is left of this group comes with the next step, when these have their vectors.
        if (texts.length === limit) return { texts, next: { kind, after: group - 1 } };
      }
    }
    if (groups.length === groupsPerStep) return { texts, next: { kind, after: groups.at(-1)!.n } };
    const nextKind = order[order.indexOf(kind) + 1];
    return { texts, next: nextKind === undefined ? null : { kind: nextKind, after: 0 } };
  };
}
