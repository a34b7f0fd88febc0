/**
 * Vectors, and the texts that wait for one. Whichever instance brings vectors up to date finds what all of them have
 * stored: the queue is a table (0006_vectors.sql), which is filled while anyone asks for it.
 */
import { quantized } from "../quantize.ts";
import { embeddedCharsMax, type TextToEmbed, type VectorStore } from "../vector-store.ts";
import { type Database, toJson } from "./database.ts";
import { bitsOf, nearest } from "./nearest.ts";

/** Conversations, users or revisions of one step of the walk. */
const groupsPerStep = 50;

const order: readonly TextToEmbed["kind"][] = ["memory", "message", "passage"];

export const createVectors = (database: Database): VectorStore => ({
  async newTexts(limit) {
    const texts = await database.rows<TextToEmbed>(
      "select kind, n::float8, mark, text from next_texts($limit::int4)",
      { limit },
    );
    return texts.map(toText);
  },

  async textsWithoutVector({ model, dimensions }, from, limit) {
    const { kind, after } = from ?? { kind: order[0]!, after: 0 };
    const step = (await database.row<{ texts: TextToEmbed[]; next_after: number | null }>(
      `select texts, next_after::float8 from texts_without_vector($kind, $after::int8, coalesce((
         select n from vector_spaces where model = $model and dimensions = $dimensions::int4), 0), ${groupsPerStep}, $limit::int4)`,
      { kind, after, model, dimensions, limit },
    ))!;
    const texts = step.texts.map(toText);
    if (step.next_after !== null) return { texts, next: { kind, after: step.next_after } };
    const nextKind = order[order.indexOf(kind) + 1];
    return { texts, next: nextKind === undefined ? null : { kind: nextKind, after: 0 } };
  },

  async saveVectors(space, vectors) {
    const { model, dimensions } = space;
    const given = vectors.map(({ kind, n, mark, values }) => ({
      kind,
      n,
      mark,
      code: values && bitsOf(values, space),
      vector: values && Buffer.from(quantized(values).buffer).toString("base64"),
    }));
    await database.rows("select save_vectors($model, $dimensions::int4, $given::text::json)", {
      model,
      dimensions,
      given: toJson(given),
    });
  },

  async nearMemories({ workspace_id, user_id }, question) {
    const { model, dimensions } = question;
    const found = await database.row<{ ids: string[] | null; vectors: Buffer | null; texts: number }>(
      `select array_agg(m.id order by m.n) as ids, string_agg(v.vector, '' order by m.n) as vectors, count(*)::int4 as texts
       from users u join memories m on m.user_n = u.n
         join memory_vectors v on v.n = m.n and v.vector is not null
         join vector_spaces s on s.n = v.space_n and s.model = $model and s.dimensions = $dimensions::int4
       where u.workspace_id = $workspace_id and u.user_id = $user_id and m.superseded_by is null`,
      { workspace_id, user_id, model, dimensions },
    );
    return nearest(question, found?.ids ?? [], found?.vectors ?? null, found?.texts ?? 0).map(
      ({ key, z }) => ({
        id: key,
        z,
      }),
    );
  },
});

const toText = ({ kind, n, mark, text }: TextToEmbed): TextToEmbed => ({
  kind,
  n,
  mark,
  text: text.slice(0, embeddedCharsMax).toWellFormed(),
});
