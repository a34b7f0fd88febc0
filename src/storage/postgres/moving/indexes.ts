/**
 * The full-text indexes, which are made anew of the texts, as whoever stores a text does it: by the functions of the
 * migrations. What is compared of them is which texts they have.
 */
import { toNormalForm } from "../../../normal-form.ts";
import type { MovedRow } from "../../moving.ts";
import { messageLexemes, passageLexemes, titleLexemes } from "../indexed.ts";
import type { Column } from "./target.ts";

export interface Index {
  /** What is sent of a row of the source, by name and type. */
  sent: readonly Column[];
  toSent(row: MovedRow): MovedRow;
  /** Calls that index the sent rows `r`. */
  call: string;
  compared: readonly Column[];
}

const text = (value: MovedRow[string] | undefined): string => toNormalForm(String(value ?? ""));

export const indexes: Readonly<Record<string, Index>> = {
  message_index: {
    sent: [
      { name: "n", type: "int8" },
      { name: "recallable", type: "bool" },
      { name: "words", type: "text" },
      { name: "terms", type: "text" },
    ],
    toSent: ({ n, recallable, content }) => ({
      n: n!,
      recallable: recallable!,
      ...messageLexemes(text(content)),
    }),
    call: "index_message(r.n, r.recallable, r.words, r.terms)",
    compared: [
      { name: "n", type: "int8" },
      { name: "user_n", type: "int8" },
    ],
  },
  title_index: {
    sent: [
      { name: "n", type: "int8" },
      { name: "words", type: "text" },
    ],
    toSent: ({ n, title }) => ({ n: n!, words: titleLexemes(text(title)) }),
    call: "index_title(r.n, r.words)",
    compared: [{ name: "n", type: "int8" }],
  },
  passage_index: {
    sent: [
      { name: "n", type: "int8" },
      { name: "revision_n", type: "int8" },
      { name: "lexemes", type: "text" },
    ],
    toSent: ({ n, revision_n, heading, text: passage }) => ({
      n: n!,
      revision_n: revision_n!,
      lexemes: passageLexemes(text(heading), text(passage)),
    }),
    call: "index_passage(r.n, r.revision_n, r.lexemes)",
    compared: [
      { name: "n", type: "int8" },
      { name: "revision_n", type: "int8" },
    ],
  },
};
