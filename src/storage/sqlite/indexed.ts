/** What stands in the full-text indexes of a message and of a passage: see the migrations. */
import { stemmed, stemsOf } from "../../search/terms.ts";
import { cutWords } from "../../search/words.ts";
import { scopeCode, withCode } from "./scope.ts";

/** @param user_n the row of the user whose recall may find it; null where nobody's may */
export function indexedMessage(user_n: number | null, content: string) {
  const words = cutWords(content);
  const scope = user_n === null ? "" : scopeCode(user_n);
  return { scope, words, terms: scope === "" ? "" : withCode(scope, stemmed(words)) };
}

/** @param scope_n of its document: see document-scopes.ts */
export function indexedPassage(scope_n: number, heading: string, text: string) {
  const code = scopeCode(scope_n);
  const words = cutWords(text);
  const above = cutWords(heading);
  return {
    heading: withCode(code, `${above} ${stemsOf(above)}`.trim()),
    words: withCode(code, words),
    stems: withCode(code, stemsOf(words)),
  };
}
